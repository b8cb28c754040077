"""DatasetService: data sets come in, are looked at, and go. Files are written in threads, beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import TypeVar

from google.protobuf.empty_pb2 import Empty

from ouzel.checks import within
from ouzel.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument
from ouzel.ledger.denials import Denials
from ouzel.ledger.recorder import Event, Recorder
from ouzel.worker.api.auth import unary
from ouzel.worker.api.service import Context, Service
from ouzel.worker.api.tokens import Tokens
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.kinds.training_data import told
from ouzel.worker.quotas.storage import Storage
from ouzel.worker.store.job import FINAL, Query, State
from ouzel.worker.store.protocol import ClientStore
from ouzel_protos import manifest
from ouzel_protos.v1 import dataset_pb2 as pb
from ouzel_protos.v1.dataset_pb2_grpc import DatasetServiceServicer

T = TypeVar("T")
_THREADS = 16
_MOST_ASKED = 10_000
_PAGE, _LARGEST_PAGE = 50, 500
_LARGEST_MANIFEST = 128 * 2**20  # bytes
_LIVE = frozenset(State) - FINAL - {State.UNSPECIFIED}


class DatasetService(Service, DatasetServiceServicer):
    """The service of data sets.

    Args:
        datasets: Holds them.
        store: Knows the jobs that need them.
        tokens: Tell the owners of calls.
        patience: Time that a stream may be silent, in seconds.
        storage: Has room for what is uploaded.
        recorder: Records what is refused and what is deleted.
        denials: See `Service`.
    """

    def __init__(
        self,
        datasets: Datasets,
        store: ClientStore,
        tokens: Tokens,
        *,
        patience: float = 30.0,
        storage: Storage | None = None,
        recorder: Recorder,
        denials: Denials | None = None,
    ) -> None:
        super().__init__(tokens, threads=_THREADS, name="datasets", recorder=recorder, denials=denials)
        self._datasets, self._store, self._patience, self._storage = datasets, store, patience, storage

    @unary
    async def FindMissing(self, request: pb.FindMissingRequest, context: Context) -> pb.FindMissingResponse:
        if len(request.files) > _MOST_ASKED:
            raise InvalidArgument(f"files: {len(request.files)} are more than {_MOST_ASKED}", field="files")
        missing = await self.run(self._datasets.missing, self.owner(context), request.files)
        return pb.FindMissingResponse(sha256=missing)

    @unary
    async def UploadFiles(
        self, requests: AsyncIterator[pb.UploadFilesRequest], context: Context
    ) -> pb.UploadFilesResponse:
        owner = self.owner(context)
        upload = await self.run(self._datasets.upload, owner, self._storage and self._storage.hold(owner))
        try:
            async for request in self._patiently(requests):
                if request.WhichOneof("part") == "file":
                    await self.run(upload.begin, request.file)
                else:
                    await self.run(upload.write, request.chunk)
            upload.check_complete()
            return pb.UploadFilesResponse(files=upload.files, bytes=upload.bytes)
        finally:  # in a thread, and to its end even if the call is cancelled once more: it may release a reservation
            await asyncio.shield(self.run(upload.close))

    @unary
    async def CreateDataset(self, requests: AsyncIterator[pb.CreateDatasetRequest], context: Context) -> pb.Dataset:
        title = expected = ""
        entries: list[pb.DatasetEntry] = []
        masked: list[str] = []
        boxed: list[str] = []
        size = 0
        async for request in self._patiently(requests):
            size += request.ByteSize()
            if size > _LARGEST_MANIFEST:
                raise InvalidArgument(f"entries: {size} bytes are more than {_LARGEST_MANIFEST}", field="entries")
            title, expected = title or request.title, expected or request.id
            entries += request.entries
            masked += request.mask_classes
            boxed += request.box_classes
            if len(entries) > manifest.MOST_IMAGES:
                raise InvalidArgument(f"entries: there are more than {manifest.MOST_IMAGES} images", field="entries")
        create = partial(self._datasets.create, box_classes=boxed)
        return await self.run(create, self.owner(context), title, entries, expected, masked)

    @unary
    async def GetDataset(self, request: pb.GetDatasetRequest, context: Context) -> pb.Dataset:
        return await self.run(self._datasets.get, self.owner(context), request.id)

    @unary
    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:
        size = request.page_size or _PAGE
        within("page_size", size, 0, _LARGEST_PAGE)
        datasets = await self.run(self._datasets.list, self.owner(context))
        if request.page_token:  # the id of the last data set of the page before
            ids = [each.id for each in datasets]
            if request.page_token not in ids:
                raise InvalidArgument("page_token: was not given out, or its data set is gone", field="page_token")
            datasets = datasets[ids.index(request.page_token) + 1 :]
        more = datasets[size - 1].id if len(datasets) > size else ""
        return pb.ListDatasetsResponse(datasets=datasets[:size], next_page_token=more)

    @unary
    async def DeleteDataset(self, request: pb.DeleteDatasetRequest, context: Context) -> Empty:
        owner = self.owner(context)
        await self.run(self._datasets.get, owner, request.id)
        if (job := await self.run(self._needed_by, owner, request.id)) is not None:
            raise FailedPrecondition(f"id: the job {job} needs this data set; cancel it first", field="id")
        await self.run(self.recorder.append, Event("deletion", {"what": "dataset", "id": request.id}, owner=owner))
        await self.run(self._datasets.delete, owner, request.id)
        return Empty()

    @unary
    async def CheckDataset(self, request: pb.CheckDatasetRequest, context: Context) -> pb.DatasetReport:
        owner = self.owner(context)
        return told(await self.run_slow(self._datasets.report, owner, request.id))

    def _needed_by(self, owner: str, dataset: str) -> str | None:
        """A job that has not ended and is about the data set."""
        query = Query(states=_LIVE, page_size=500)
        while True:
            page = self._store.list(owner, query)
            for job in page.jobs:
                if getattr(getattr(job.spec, job.kind), "dataset", None) == dataset:
                    return job.id
            if not page.next_page_token:
                return None
            query = Query(states=_LIVE, page_size=500, page_token=page.next_page_token)

    async def _patiently(self, requests: AsyncIterator[T]) -> AsyncIterator[T]:
        """The messages of a stream that is not silent for too long. Raises DeadlineExceeded."""
        iterator = aiter(requests)
        while True:
            try:
                yield await asyncio.wait_for(anext(iterator), self._patience)
            except StopAsyncIteration:
                return
            except TimeoutError:
                waited = f"nothing came for {self._patience:g} s"
                raise DeadlineExceeded(f"{waited}; ask what is missing, and go on") from None
