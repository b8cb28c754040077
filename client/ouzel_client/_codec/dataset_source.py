"""Labelled images as callers have them: a folder, a zip file, or pairs of image and label."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import numpy as np

from ouzel_client._codec import images, zips
from ouzel_client._codec.images import ImageInput
from ouzel_client._optional import need_pillow
from ouzel_client.errors import InvalidArgument
from ouzel_protos import folders, manifest
from ouzel_protos.folders import BadFolder
from ouzel_protos.manifest import BadEntry
from ouzel_protos.text import nfc
from ouzel_protos.v1 import dataset_pb2 as pb

Source: TypeAlias = "str | os.PathLike[str] | Iterable[tuple[ImageInput, str]]"
Boxes: TypeAlias = Mapping[str, Sequence[tuple[float, float, float, float]]]
Read = Callable[[], bytes]


@dataclass(frozen=True)
class Files:
    """entries: the manifest; contents: how to read each file, by its digest; left_out: (name, reason) of the others.

    mask_classes: names of the classes of label maps; box_classes: of boxes. Images with labels have neither.
    """

    entries: list[pb.DatasetEntry]
    contents: Mapping[str, Read]
    left_out: tuple[tuple[str, str], ...] = ()
    mask_classes: tuple[str, ...] = ()
    box_classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Image:
    path: str
    label: str
    split: str
    read: Read


def collect(
    source: Source, masks: str | os.PathLike[str] | None, boxes: Boxes | None = None, follow_links: bool = False
) -> Files:
    """Read every file once, for its digest. Raises InvalidArgument that names the file at fault."""
    left = {nfc(path): edges for path, edges in (boxes or {}).items()}
    entries: list[pb.DatasetEntry] = []
    contents: dict[str, Read] = {}
    try:
        images, left_out = _labelled(source, follow_links)
        known = _masks(masks, follow_links) if masks is not None else {}
        for image in images:
            path = image.path
            entry = pb.DatasetEntry(path=path, label=image.label, split=image.split)
            entry.file.CopyFrom(hashed(image.read, path, contents))
            if mask := known.get(str(PurePosixPath(path).with_suffix(".png"))):
                entry.mask.CopyFrom(hashed(mask.read_bytes, str(mask), contents))
            for edges in left.pop(path, ()):
                try:
                    left_edge, top, right, bottom = edges
                    entry.boxes.add(left=left_edge, top=top, right=right, bottom=bottom)
                except (TypeError, ValueError):
                    raise BadEntry(f"boxes: {edges!r:.80} of {path} is no left, top, right, bottom", "boxes") from None
            entries.append(entry)
        if left:
            raise BadEntry(f"boxes: there is no image {min(left)!r:.200}", "boxes")
        if masks is not None and not any(entry.HasField("mask") for entry in entries):
            raise BadEntry(f"masks: {masks} holds no PNG of the path of an image", "masks")
        manifest.check(entries)
        manifest.check_classes(entries)
    except BadEntry as error:
        raise InvalidArgument(str(error), field=error.field) from None
    except BadFolder as error:
        raise InvalidArgument(f"source: {error}", field="source") from None
    except OSError as error:
        raise InvalidArgument(f"source: {error.filename or source}: {error.strerror}", field="source") from None
    return Files(entries, contents, left_out)


def hashed(read: Read, path: str, contents: dict[str, Read]) -> pb.FileRef:
    """The digest of a file; how to read it again goes into `contents`. Raises InvalidArgument for one too large."""
    content = read()
    if len(content) > manifest.LARGEST_FILE:
        raise InvalidArgument(
            f"source: {path} has {len(content)} bytes, more than {manifest.LARGEST_FILE}", field="source"
        )
    digest = hashlib.sha256(content).hexdigest()
    contents.setdefault(digest, read)
    return pb.FileRef(sha256=digest, size=len(content))


def _labelled(source: Source, follow_links: bool) -> tuple[Iterable[_Image], tuple[tuple[str, str], ...]]:
    """The images, and what else the source holds."""
    if not isinstance(source, (str, os.PathLike)):
        return _of_pairs(source), ()
    path = Path(source)
    reads: Mapping[str, Read]
    if path.is_dir():
        arrangement, files = folders.read_folder(path, follow_links)
        reads = {name: file.read_bytes for name, file in files.items()}
    elif path.is_file():
        reads = zips.members(path)
        arrangement = folders.arrange(reads)
    else:
        raise InvalidArgument(f"source: {path} is neither a folder nor a zip file", field="source")
    images = [_Image(each.path, each.label, each.split, reads[each.name]) for each in arrangement.images]
    return images, arrangement.left_out


def _of_pairs(source: Iterable[tuple[ImageInput, str]]) -> Iterator[_Image]:
    for number, pair in enumerate(source):
        try:
            image, label = pair
        except (TypeError, ValueError):
            raise InvalidArgument(f"source[{number}]: is no (image, label)", field="source") from None
        if not isinstance(label, str):
            raise InvalidArgument(f"source[{number}]: the label {label!r:.80} is no text", field="source")
        yield _Image(f"{number:06}", nfc(label), "", _reader(image, number))


def _masks(folder: str | os.PathLike[str], follow_links: bool) -> Mapping[str, Path]:
    """The files of a folder by their composed names: that of an image may be written in another form of Unicode."""
    if not Path(folder).is_dir():
        raise InvalidArgument(f"masks: {folder} is not a folder", field="masks")
    files, _ = folders.walk(Path(folder), follow_links)
    return {nfc(name): path for name, path in files.items()}


def _reader(image: Any, number: int) -> Read:
    """Paths are read again when they are sent; what is in memory anyway is encoded then."""
    if isinstance(image, (str, os.PathLike)):
        return Path(image).read_bytes

    def read() -> bytes:
        upload = images.read(image, manifest.LARGEST_FILE)
        if upload.key == "image":
            return upload.data
        if upload.pixels is None:
            raise InvalidArgument(f"source[{number}]: a normalised tensor is no image", field="source")
        return _png(upload.pixels)

    return read


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    pillow, _ = need_pillow("sending arrays of pixels")
    out = io.BytesIO()
    pillow.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
