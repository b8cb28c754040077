"""Labelled images as callers have them: a folder, a zip file, or pairs of image and label."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ouzel_client import _images, _zips
from ouzel_client._images import ImageInput
from ouzel_client._optional import need_pillow
from ouzel_client.errors import InvalidArgument
from ouzel_protos import manifest
from ouzel_protos.manifest import BadEntry
from ouzel_protos.v1 import dataset_pb2 as pb

Source: TypeAlias = "str | os.PathLike[str] | Iterable[tuple[ImageInput, str]]"
Boxes: TypeAlias = Mapping[str, Sequence[tuple[float, float, float, float]]]
Read = Callable[[], bytes]
_EDGES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class Files:
    """entries: the manifest; contents: how to read each file, by its digest."""

    entries: list[pb.DatasetEntry]
    contents: Mapping[str, Read]


def collect(source: Source, masks: str | os.PathLike[str] | None, boxes: Boxes | None = None) -> Files:
    """Read every file once, for its digest. Raises InvalidArgument that names the file at fault."""
    left = dict(boxes or {})
    entries: list[pb.DatasetEntry] = []
    contents: dict[str, Read] = {}
    try:
        for path, label, split, read in _labelled(source):
            entry = pb.DatasetEntry(path=path, label=label, split=split, file=_hashed(read, path, contents))
            mask = Path(masks, path).with_suffix(".png") if masks is not None else None
            if mask is not None and mask.is_file():
                entry.mask.CopyFrom(_hashed(mask.read_bytes, str(mask), contents))
            for edges in left.pop(path, ()):
                try:
                    entry.boxes.append(pb.Box(**dict(zip(_EDGES, edges, strict=True))))
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
    except OSError as error:
        raise InvalidArgument(f"source: {error.filename or source}: {error.strerror}", field="source") from None
    return Files(entries, contents)


def _hashed(read: Read, path: str, contents: dict[str, Read]) -> pb.FileRef:
    content = read()
    if len(content) > manifest.LARGEST_FILE:
        raise InvalidArgument(
            f"source: {path} has {len(content)} bytes, more than {manifest.LARGEST_FILE}", field="source"
        )
    digest = hashlib.sha256(content).hexdigest()
    contents.setdefault(digest, read)
    return pb.FileRef(sha256=digest, size=len(content))


def _labelled(source: Source) -> Iterator[tuple[str, str, str, Read]]:
    """Path within the data set, label, split, and how to read it."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            yield from _of_folder(path)
        elif path.is_file():
            found = _zips.members(path)
            for name, inner, label, split in manifest.labelled(found):
                yield inner, label, split, found[name]
        else:
            raise InvalidArgument(f"source: {path} is neither a folder nor a zip file", field="source")
        return
    for number, pair in enumerate(source):
        try:
            image, label = pair
        except (TypeError, ValueError):
            raise InvalidArgument(f"source[{number}]: is no (image, label)", field="source") from None
        if not isinstance(label, str):
            raise InvalidArgument(f"source[{number}]: the label {label!r:.80} is no text", field="source")
        yield f"{number:06}", label, "", _reader(image, number)


def _of_folder(folder: Path) -> Iterator[tuple[str, str, str, Read]]:
    root = folder.resolve()
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name, inner, label, split in manifest.labelled(files):
        if not files[name].resolve().is_relative_to(root):
            raise InvalidArgument(f"source: {files[name]} is a link that leads out of {folder}", field="source")
        yield inner, label, split, files[name].read_bytes


def _reader(image: Any, number: int) -> Read:
    """Paths are read again when they are sent; what is in memory anyway is encoded then."""
    if isinstance(image, (str, os.PathLike)):
        return Path(image).read_bytes

    def read() -> bytes:
        upload = _images.read(image, manifest.LARGEST_FILE)
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
