"""The engine that computes in this process: for laptops and tests. torch is loaded with the first model."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ouzel.errors import OuzelError, Unavailable
from ouzel.explain import Limits, RawRequest
from ouzel.gateway.batcher import Batcher
from ouzel.gateway.engine import Description, Row
from ouzel.gateway.engines.catalogue import Catalogue
from ouzel.model_file import ModelFile
from ouzel.telemetry import tracing
from ouzel_protos.v1 import explain_pb2 as pb

if TYPE_CHECKING:
    from ouzel.explain.pool import PoolService, PoolStatistics
    from ouzel.explain.reading import Row as Read
    from ouzel.explain.served import Served

    _Question = tuple[Served, RawRequest]

_log = logging.getLogger(__name__)
_PLATFORM = "ouzel_pytorch"
_STARTED = 16  # models that are loaded before they are asked
_THREADS = 16  # networks that compute at the same time; each computes one batch after another


class InProcessEngine:
    """See `ouzel.gateway.engine.Engine`. A model is loaded when it is first asked; models of one backbone share it.

    While a network computes a batch, threads decode and preprocess the images of its next one.

    Args:
        store: The model store.
        device: Where the networks go, as torch names it.
        batch_size: Rows that are computed together at most; they may be of several models that share a network.
        limits: Of requests.
        memory_bytes: That models may take; those that were asked the longest ago make room. None is a quarter of the
            machine's memory.
    """

    def __init__(
        self,
        store: Path,
        *,
        device: str = "cpu",
        batch_size: int = 8,
        limits: Limits | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        self._catalogue = Catalogue(store)
        self._device, self._batch_size, self._limits, self._most = device, batch_size, limits, memory_bytes
        self._pool: PoolService | None = None
        self._opening: asyncio.Task[PoolService] | None = None
        self._starting: asyncio.Task[None] | None = None
        # By explainer, until its network has made room and whoever waits for it has an answer.
        self._batchers: WeakKeyDictionary[Any, Batcher[_Question, Read, pb.Explanation]] = WeakKeyDictionary()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ouzel-compute")
        self._closed = False

    async def start(self) -> None:
        """Loads the default version of each model, as far as there is room, in the background."""
        self._starting = asyncio.create_task(self._load_defaults())

    async def close(self) -> None:
        """See `Engine`."""
        self._closed = True
        for batcher in list(self._batchers.values()):
            batcher.close()
        if self._starting is not None:
            self._starting.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._pool is not None:
            self._pool.close()

    async def ready(self) -> bool:
        """Whether the models that are being loaded have come to an end with it."""
        return not self._closed and (self._starting is None or self._starting.done())

    async def predict(self, model: str, version: str, rows: Sequence[Row], deadline: float) -> list[pb.Explanation]:
        """See `Engine`."""
        served = await self._served(await self._catalogue.file(model, version))
        if self._closed:
            raise Unavailable("the service is stopping")
        batcher = self._batchers.get(served.explainer)
        if batcher is None:
            batcher = self._batchers[served.explainer] = Batcher(
                self._begin, self._answer, self._batch_size, self._threads
            )
        trace = tracing.carried()
        left = threading.Event()
        requests = (
            RawRequest(row.image, row.tensor, row.options.SerializeToString(), trace=trace, gone=left.is_set)
            for row in rows
        )
        try:
            return await batcher.ask([(served, request) for request in requests])
        except asyncio.CancelledError:
            left.set()
            raise

    def stalled(self, model: str, version: str) -> float:
        """See `Engine`. This process computes as long as it lives."""
        return 0.0

    async def describe(self, model: str, version: str) -> Description:
        """See `Engine`."""
        return await self._catalogue.describe(model, version, _PLATFORM)

    async def models(self) -> list[Description]:
        """See `Engine`."""
        return [
            await self._catalogue.describe(name, version, _PLATFORM)
            for name, listed in sorted((await self._catalogue.models()).items())
            for version in listed.files
        ]

    def statistics(self) -> PoolStatistics | None:
        """What is in memory; None before the first model."""
        return None if self._pool is None else self._pool.statistics()

    async def _served(self, file: ModelFile) -> Served:
        if self._closed:
            raise Unavailable("the service is stopping")
        pool = await self._opened()
        served = pool.find(file)
        if served is None:
            served = await asyncio.shield(asyncio.to_thread(pool.load, file))
        return served

    async def _opened(self) -> PoolService:
        if self._pool is None:
            if self._opening is None:
                self._opening = asyncio.create_task(asyncio.to_thread(self._open))
            self._pool = await asyncio.shield(self._opening)
        return self._pool

    def _open(self) -> PoolService:
        from ouzel.explain.pool import PoolService

        return PoolService(device=self._device, limits=self._limits, memory_bytes=self._most)

    def _begin(self, question: _Question) -> Future[Read]:
        assert self._pool is not None  # who is served was loaded by it
        return self._pool.begin(*question)

    def _answer(self, reading: list[Future[Read]]) -> list[pb.Explanation]:
        assert self._pool is not None
        return [reply.envelope for reply in self._pool.answer_begun(reading)]

    async def _load_defaults(self) -> None:
        for name, listed in list((await self._catalogue.models()).items())[:_STARTED]:
            if not listed.default:
                continue
            try:
                await self._served(await self._catalogue.file(name, ""))
            except OuzelError as error:
                _log.warning("%s is not loaded: %s", name, error)
            statistics = self.statistics()
            if self._closed or (statistics is not None and statistics.evictions):  # there is no more room
                return
