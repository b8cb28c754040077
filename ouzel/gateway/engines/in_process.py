"""The engine that computes in this process: for laptops and tests. torch is loaded with the first model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ouzel.errors import Unavailable
from ouzel.explain import Limits, RawRequest
from ouzel.gateway.batcher import Batcher
from ouzel.gateway.engine import Description, Row
from ouzel.gateway.engines.catalogue import Catalogue
from ouzel.model_file import ModelFile
from ouzel.telemetry import tracing
from ouzel_protos.v1 import explain_pb2 as pb

if TYPE_CHECKING:
    from ouzel.explain import ExplainService

_log = logging.getLogger(__name__)
_PLATFORM = "ouzel_pytorch"


@dataclass(frozen=True)
class _Loaded:
    """A model that answers. It has a thread of its own: its batches are computed one after another."""

    batcher: Batcher[RawRequest, pb.Explanation]
    thread: ThreadPoolExecutor

    def close(self) -> None:
        self.batcher.close()
        self.thread.shutdown(wait=False, cancel_futures=True)


class InProcessEngine:
    """See `ouzel.gateway.engine.Engine`. A model is loaded when it is first asked.

    Args:
        store: The model store.
        device: Where the networks go, as torch names it.
        batch_size: Rows that are computed together at most.
        limits: Of requests.
        loaded: Models that are kept in memory; the one that was asked the longest ago makes room.
    """

    def __init__(
        self,
        store: Path,
        *,
        device: str = "cpu",
        batch_size: int = 8,
        limits: Limits | None = None,
        loaded: int = 16,
    ) -> None:
        self._catalogue = Catalogue(store)
        self._device, self._batch_size, self._limits, self._most = device, batch_size, limits, loaded
        self._models: dict[str, asyncio.Task[_Loaded]] = {}  # by digest and path, the least recently asked first
        self._closed = False

    async def start(self) -> None:
        """Loads the default version of each model, as far as there is room, in the background."""
        models = await self._catalogue.models()
        for name, listed in list(models.items())[: self._most]:
            if listed.default:
                self._model(await self._catalogue.file(name, ""))

    async def close(self) -> None:
        """See `Engine`."""
        self._closed = True
        for task in self._models.values():
            _close(task)
        self._models.clear()

    async def ready(self) -> bool:
        """Whether the models that are being loaded have come to an end with it."""
        return not self._closed and all(task.done() for task in self._models.values())

    async def predict(self, model: str, version: str, rows: Sequence[Row], deadline: float) -> list[pb.Explanation]:
        """See `Engine`."""
        loaded = await asyncio.shield(self._model(await self._catalogue.file(model, version)))
        parent = tracing.carried().get(tracing.PARENT)
        questions = [
            RawRequest(row.image, row.tensor, row.options.SerializeToString(), traceparent=parent) for row in rows
        ]
        return await loaded.batcher.ask(questions)

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

    def _model(self, file: ModelFile) -> asyncio.Task[_Loaded]:
        if self._closed:
            raise Unavailable("the service is stopping")
        key = f"{file.digest} {file.path}"
        task = self._models.pop(key, None)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(self._load(file))
        self._models[key] = task
        while len(self._models) > self._most:
            _close(self._models.pop(next(iter(self._models))))
        return task

    async def _load(self, file: ModelFile) -> _Loaded:
        service = await asyncio.to_thread(self._service, file)
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"ouzel-{file.name}")

        def answer(questions: list[RawRequest]) -> list[pb.Explanation]:
            return [reply.envelope for reply in service.answer(questions)]

        return _Loaded(Batcher(answer, self._batch_size, thread), thread)

    def _service(self, file: ModelFile) -> ExplainService:
        from ouzel import models
        from ouzel.explain import ExplainService

        model = models.load(file.path, device=self._device)
        service = ExplainService(model, self._limits)
        service.warm_up(1)
        _log.info("%s version %s is loaded, weights %s", model.name, model.version, model.digest)
        return service


def _close(task: asyncio.Task[_Loaded]) -> None:
    """Rows that wait in a model which makes room are answered with Unavailable; those that are computed, as usual."""
    if not task.done():
        task.cancel()
    elif not task.cancelled() and task.exception() is None:
        task.result().close()
