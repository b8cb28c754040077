"""Data sets of small pictures, as entries and as files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from PIL import Image

from ouzel.worker.datasets.store import Datasets
from ouzel_protos.v1 import dataset_pb2 as pb

CHUNK = 2**16


def coloured(channel: int, seed: int, size: int = 40) -> bytes:
    """A PNG of noise in which one colour is strong: nothing that a network would confuse."""
    pixels = np.random.default_rng([channel, seed]).integers(0, 90, (size, size, 3), dtype=np.uint8)
    pixels[..., channel] += 150
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def two_colours(images: int = 12) -> dict[str, bytes]:
    """By path: so many images of each of two classes."""
    return {
        f"{label}/{n}.png": coloured(channel, n) for label, channel in (("blue", 2), ("red", 0)) for n in range(images)
    }


def ref(content: bytes) -> pb.FileRef:
    return pb.FileRef(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def entries(files: Mapping[str, bytes], masks: Mapping[str, bytes] | None = None) -> list[pb.DatasetEntry]:
    """The folder of each is its label. masks: of some of them, by their paths."""
    made = [pb.DatasetEntry(path=path, label=path.split("/")[-2], file=ref(content)) for path, content in files.items()]
    for entry in made:
        if entry.path in (masks or {}):
            entry.mask.CopyFrom(ref((masks or {})[entry.path]))
    return made


def parts(*contents: bytes, chunk: int = CHUNK) -> Iterator[pb.UploadFilesRequest]:
    """What UploadFiles is sent."""
    for content in contents:
        yield pb.UploadFilesRequest(file=ref(content))
        for at in range(0, len(content), chunk):
            yield pb.UploadFilesRequest(chunk=pb.Chunk(offset=at, data=content[at : at + chunk]))


def stored(
    datasets: Datasets,
    owner: str,
    files: Mapping[str, bytes],
    title: str = "",
    masks: Mapping[str, bytes] | None = None,
) -> pb.Dataset:
    """Uploaded and created. masks: of some of the images, by their paths."""
    send(datasets, owner, {*files.values(), *(masks or {}).values()})
    return datasets.create(owner, title, entries(files, masks))


def send(datasets: Datasets, owner: str, contents: Iterable[bytes]) -> None:
    """Files alone."""
    upload = datasets.upload(owner)
    for part in parts(*contents):
        if part.WhichOneof("part") == "file":
            upload.begin(part.file)
        else:
            upload.write(part.chunk)
    upload.close()


def stored_masked(
    datasets: Datasets, owner: str, pairs: Mapping[str, tuple[bytes, bytes]], classes: Sequence[str], split: str = ""
) -> pb.Dataset:
    """Images with label maps, by path, uploaded and created."""
    send(datasets, owner, {content for pair in pairs.values() for content in pair})
    made = [
        pb.DatasetEntry(path=path, file=ref(image), mask=ref(mask), split=split)
        for path, (image, mask) in pairs.items()
    ]
    return datasets.create(owner, "", made, mask_classes=classes)


def stored_boxed(
    datasets: Datasets,
    owner: str,
    images: Mapping[str, tuple[bytes, Sequence[tuple[float, float, float, float, int]]]],
    classes: Sequence[str],
) -> pb.Dataset:
    """Images with boxes, by path, uploaded and created. The last number of a box is its class."""
    send(datasets, owner, {image for image, _ in images.values()})
    return datasets.create(owner, "", boxed_entries(images), box_classes=classes)


def boxed_entries(
    images: Mapping[str, tuple[bytes, Sequence[tuple[float, float, float, float, int]]]],
) -> list[pb.DatasetEntry]:
    """As `stored_boxed` has them."""
    made = []
    for path, (image, boxes) in images.items():
        entry = pb.DatasetEntry(path=path, file=ref(image))
        for left, top, right, bottom, index in boxes:
            entry.boxes.add(left=left, top=top, right=right, bottom=bottom, index=index)
        made.append(entry)
    return made
