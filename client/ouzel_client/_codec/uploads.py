"""Streams of messages that upload a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ouzel_client._codec.dataset_source import Files
from ouzel_protos import manifest
from ouzel_protos.v1 import dataset_pb2 as pb

_ENTRIES = 2000  # in a message
_CHUNK = 512 * 2**10  # bytes
_STREAM = 64 * 2**20  # bytes of files in one call


def parts(files: Files, missing: Sequence[str]) -> Iterator[pb.UploadFilesRequest]:
    """The messages of files, one after another, up to a size that suits one call; the rest is for the next call."""
    sent = 0
    for digest in missing:
        content = files.contents[digest]()
        yield pb.UploadFilesRequest(file=pb.FileRef(sha256=digest, size=len(content)))
        for offset in range(0, len(content), _CHUNK):
            yield pb.UploadFilesRequest(chunk=pb.Chunk(offset=offset, data=content[offset : offset + _CHUNK]))
        sent += len(content)
        if sent >= _STREAM:
            return


def manifest_parts(files: Files, title: str) -> Iterator[pb.CreateDatasetRequest]:
    """The messages of a manifest."""
    entries, masked, boxed = files.entries, files.mask_classes, files.box_classes
    digest = manifest.digest(entries, masked, boxed)
    first = pb.CreateDatasetRequest(title=title, id=digest, mask_classes=masked, box_classes=boxed)
    for start in range(0, len(entries), _ENTRIES):
        first.entries.extend(entries[start : start + _ENTRIES])
        yield first
        first = pb.CreateDatasetRequest()
