"""Data sets for `testing.FakeServer`: kept in memory, never looked at."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from ouzel_protos import manifest
from ouzel_protos.v1 import dataset_pb2


class FakeDatasets:
    """The data sets of a fake server.

    Attributes:
        cut: An upload breaks with UNAVAILABLE after this many files. None does not break it.
        received: Digests of the files that arrived, in order; a file that arrived twice is there twice.
        files: The content of the files by digest.
    """

    def __init__(self) -> None:
        self.cut: int | None = None
        self.received: list[str] = []
        self.files: dict[str, bytes] = {}
        self._known: dict[str, tuple[dataset_pb2.Dataset, list[dataset_pb2.DatasetEntry]]] = {}

    def call(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer a method. `request` is an iterator if the method takes a stream."""
        if name in ("UploadFiles", "CreateDataset"):
            return self._upload(request, context) if name == "UploadFiles" else self._create(request)
        if name == "FindMissing":
            missing = [file.sha256 for file in request.files if file.sha256 not in self.files]
            return dataset_pb2.FindMissingResponse(sha256=missing)
        if name == "ListDatasets":
            return dataset_pb2.ListDatasetsResponse(datasets=[each for each, _ in reversed(self._known.values())])
        if request.id not in self._known:
            context.abort(grpc.StatusCode.NOT_FOUND, f"dataset: no data set {request.id!r}")
        dataset, entries = self._known[request.id]
        if name == "DeleteDataset":
            del self._known[request.id]
            return Empty()
        if name == "CheckDataset":
            classes = Counter(entry.label for entry in entries if entry.label)
            return dataset_pb2.DatasetReport(dataset=dataset.id, usable=True, classes=classes, images=len(entries))
        return dataset

    def _upload(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        file, content = dataset_pb2.FileRef(), b""
        for request in requests:
            if request.WhichOneof("part") == "file":
                if self.cut == 0:
                    self.cut = None
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the upload was cut")
                file, content = request.file, b""
            else:
                content += request.chunk.data
            if len(content) == file.size:
                assert hashlib.sha256(content).hexdigest() == file.sha256
                self.files[file.sha256] = content
                self.received.append(file.sha256)
                self.cut = None if self.cut is None else self.cut - 1
        return dataset_pb2.UploadFilesResponse(files=len(self.received))

    def _create(self, requests: Iterator[Any]) -> dataset_pb2.Dataset:
        title = ""
        entries: list[dataset_pb2.DatasetEntry] = []
        classes: list[str] = []
        boxed: list[str] = []
        for request in requests:
            title = title or request.title
            entries += request.entries
            classes += request.mask_classes
            boxed += request.box_classes
        manifest.check(entries, classes, boxed)
        made = dataset_pb2.Dataset(
            id=manifest.digest(entries, classes, boxed),
            title=title,
            images=len(entries),
            bytes=sum(entry.file.size for entry in entries),
            classes=Counter(entry.label for entry in entries if entry.label),
            masks=sum(entry.HasField("mask") for entry in entries),
            mask_classes=classes,
            box_classes=boxed,
            boxes=sum(len(entry.boxes) for entry in entries),
        )
        made.create_time.GetCurrentTime()
        return self._known.setdefault(made.id, (made, entries))[0]
