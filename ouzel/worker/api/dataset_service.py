"""DatasetService: data sets come in, are looked at, and go. Files are written in threads, beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.empty_pb2 import Empty

from ouzel.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument
from ouzel.worker.api.auth import unary
from ouzel.worker.api.tokens import Tokens
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.kinds.training_data import told
from ouzel.worker.store.job import FINAL, Query, State
from ouzel.worker.store.protocol import ClientStore
from ouzel_protos import manifest
from ouzel_protos.v1 import dataset_pb2 as pb
from ouzel_protos.v1.dataset_pb2_grpc import DatasetServiceServicer

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]
_THREADS = 16
_MOST_ASKED = 10_000
_PAGE, _LARGEST_PAGE = 50, 500
_LARGEST_MANIFEST = 128 * 2**20  # bytes
_LIVE = frozenset(State) - FINAL - {State.UNSPECIFIED}


class DatasetService(DatasetServiceServicer):
    """patience: seconds that a stream may be silent."""

    def __init__(self, datasets: Datasets, store: ClientStore, tokens: Tokens, *, patience: float = 30.0) -> None:
        self._datasets, self._store, self._tokens, self._patience = datasets, store, tokens, patience
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="datasets")
        self._checks = ThreadPoolExecutor(4, thread_name_prefix="checks")  # may take long: nothing else waits for them

    def release(self) -> None:
        self._checks.shutdown(cancel_futures=True)
        self._threads.shutdown(cancel_futures=True)

    @unary
    async def FindMissing(self, request: pb.FindMissingRequest, context: Context) -> pb.FindMissingResponse:
        if len(request.files) > _MOST_ASKED:
            raise InvalidArgument(f"files: {len(request.files)} are more than {_MOST_ASKED}", field="files")
        missing = await self._run(self._datasets.missing, self._owner(context), request.files)
        return pb.FindMissingResponse(sha256=missing)

    @unary
    async def UploadFiles(
        self, requests: AsyncIterator[pb.UploadFilesRequest], context: Context
    ) -> pb.UploadFilesResponse:
        upload = await self._run(self._datasets.upload, self._owner(context))
        try:
            async for request in self._patiently(requests):
                if request.WhichOneof("part") == "file":
                    await self._run(upload.begin, request.file)
                else:
                    await self._run(upload.write, request.chunk)
            upload.check_complete()
            return pb.UploadFilesResponse(files=upload.files, bytes=upload.bytes)
        finally:
            upload.close()

    @unary
    async def CreateDataset(self, requests: AsyncIterator[pb.CreateDatasetRequest], context: Context) -> pb.Dataset:
        title = expected = ""
        entries: list[pb.DatasetEntry] = []
        size = 0
        async for request in self._patiently(requests):
            size += request.ByteSize()
            if size > _LARGEST_MANIFEST:
                raise InvalidArgument(f"entries: {size} bytes are more than {_LARGEST_MANIFEST}", field="entries")
            title, expected = title or request.title, expected or request.id
            entries += request.entries
            if len(entries) > manifest.MOST_IMAGES:
                raise InvalidArgument(f"entries: there are more than {manifest.MOST_IMAGES} images", field="entries")
        return await self._run(self._datasets.create, self._owner(context), title, entries, expected)

    @unary
    async def GetDataset(self, request: pb.GetDatasetRequest, context: Context) -> pb.Dataset:
        return await self._run(self._datasets.get, self._owner(context), request.id)

    @unary
    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:
        size = request.page_size or _PAGE
        if not 1 <= size <= _LARGEST_PAGE:
            raise InvalidArgument(f"page_size: {size} is not within 0..{_LARGEST_PAGE}", field="page_size")
        found = await self._run(self._datasets.list, self._owner(context))
        if request.page_token:  # the id of the last one that was told
            ids = [each.id for each in found]
            if request.page_token not in ids:
                raise InvalidArgument("page_token: was not given out, or its data set is gone", field="page_token")
            found = found[ids.index(request.page_token) + 1 :]
        more = found[size - 1].id if len(found) > size else ""
        return pb.ListDatasetsResponse(datasets=found[:size], next_page_token=more)

    @unary
    async def DeleteDataset(self, request: pb.DeleteDatasetRequest, context: Context) -> Empty:
        owner = self._owner(context)
        await self._run(self._datasets.get, owner, request.id)
        if (job := await self._run(self._needed_by, owner, request.id)) is not None:
            raise FailedPrecondition(f"id: the job {job} needs this data set; cancel it first", field="id")
        await self._run(self._datasets.delete, owner, request.id)
        return Empty()

    @unary
    async def CheckDataset(self, request: pb.CheckDatasetRequest, context: Context) -> pb.DatasetReport:
        owner = self._owner(context)
        report = self._datasets.report
        return told(await asyncio.get_running_loop().run_in_executor(self._checks, report, owner, request.id))

    def _needed_by(self, owner: str, dataset: str) -> str | None:
        """A job that has not ended and is about the data set."""
        query = Query(states=_LIVE, kind="finetune", page_size=500)
        while True:
            page = self._store.list(owner, query)
            for job in page.jobs:
                if job.spec.finetune.dataset == dataset:
                    return job.id
            if not page.next_page_token:
                return None
            query = Query(states=_LIVE, kind="finetune", page_size=500, page_token=page.next_page_token)

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

    def _owner(self, context: Context) -> str:
        owner = self._tokens.owner(context.invocation_metadata())
        assert owner is not None  # the interceptor has seen to it
        return owner

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*args))
