"""The engine that asks TorchServe, which batches the rows of all callers. Without torch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ouzel.errors import NotFound, OuzelError, Unavailable
from ouzel.gateway.engine import Description, Row
from ouzel.gateway.engines.catalogue import Catalogue, Listed, pick
from ouzel.gateway.engines.torchserve_calls import Place, TorchServeCalls
from ouzel.left_calls import FOLDER
from ouzel.model_file import ModelFile
from ouzel.model_names import POOL, POOL_VERSION
from ouzel.torchserve import management, pool
from ouzel.torchserve.server import Server
from ouzel_protos.local import read_serving
from ouzel_protos.v1 import explain_pb2 as pb

_log = logging.getLogger(__name__)
_PLATFORM = "ouzel_torchserve"
_HOLDS = 5.0  # s for which it is known what TorchServe serves
_AGAIN = 0.5  # s after which it is asked again about what it does not seem to serve


@dataclass(frozen=True)
class Found:
    """A TorchServe.

    Attributes:
        place: Of its inference.
        server: Of its management.
        store: Folder of its archives, which say what models take and answer.
    """

    place: Place
    server: Server
    store: Path


def local(state: Path) -> Callable[[], Found | None]:
    """Finds the TorchServe that `ouzel up` started with a state folder."""

    def find() -> Found | None:
        record = read_serving(state)
        if record is None:
            return None
        key_file = Path(record["key_file"])
        server = Server(record["rest"], record["management"], key_file)
        place = Place(record["grpc"], key_file, key_file.parent / FOLDER)
        return Found(place, server, Path(record["model_store"]))

    return find


class TorchServeEngine:
    """See `ouzel.gateway.engine.Engine`. Versions without processes of their own are the pool's, where there is one.

    Args:
        find: Where TorchServe is now; None if it is not running.
        store: Folder of the archives, if it is another one than `find` says.
        max_request_bytes: Of one row, that TorchServe takes.
        retried: Called with each row that is asked for again.
    """

    def __init__(
        self,
        find: Callable[[], Found | None],
        *,
        store: Path | None = None,
        max_request_bytes: int = 6_553_500,
        retried: Callable[[], None] = lambda: None,
    ) -> None:
        self._find, self._store = find, store
        self._catalogue: Catalogue | None = None
        self._calls = TorchServeCalls(self._place, self._processes, max_request_bytes, retried)
        self._served: frozenset[tuple[str, str]] = frozenset()
        self._asked = -_HOLDS
        self._answers = False
        self._asking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See `Engine`."""
        await self._ask()

    async def close(self) -> None:
        """See `Engine`."""
        if self._asking is not None:
            self._asking.cancel()
        await self._calls.close()

    async def ready(self) -> bool:
        """Whether TorchServe answers."""
        await self._known()
        return self._answers

    async def predict(self, model: str, version: str, rows: Sequence[Row], deadline: float) -> list[pb.Explanation]:
        """See `Engine`. All rows are in flight at the same time, so that TorchServe can batch them."""
        file = await self._file(model, version)
        own = (file.name, file.version) in self._served
        name, of, pooled = (file.name, file.version, None) if own else (POOL, POOL_VERSION, file)
        tasks = [asyncio.ensure_future(self._calls.answer(name, of, row, deadline, pooled)) for row in rows]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()  # no effect on those that are done

    async def describe(self, model: str, version: str) -> Description:
        """See `Engine`."""
        file = await self._file(model, version)
        return await self._described(file)

    async def models(self) -> list[Description]:
        """See `Engine`."""
        models = await self._models()
        return [await self._described(models[name].files[v]) for name in sorted(models) for v in models[name].files]

    async def _described(self, file: ModelFile) -> Description:
        assert self._catalogue is not None  # the file is of it
        described = await self._catalogue.describe(file.name, file.version, _PLATFORM)
        pooled = pool.is_among(self._served)
        served = tuple(each for each in described.versions if pooled or (file.name, each) in self._served)
        return replace(described, versions=served)

    async def _file(self, model: str, version: str) -> ModelFile:
        try:
            return pick(model, version, await self._models())
        except NotFound:
            if time.monotonic() - self._asked < _AGAIN:
                raise
        await self._ask()  # it may have been published a moment ago
        if self._catalogue is not None:
            await self._catalogue.look()
        return pick(model, version, await self._models())

    async def _models(self) -> Mapping[str, Listed]:
        """The models of the store, with the versions that are served: where there is a pool, all."""
        await self._known()
        if self._catalogue is None:
            raise Unavailable("the service of the models is not running")
        if pool.is_among(self._served):
            return await self._catalogue.models()
        models = {}
        for name, listed in (await self._catalogue.models()).items():
            files = {version: file for version, file in listed.files.items() if (name, version) in self._served}
            if files:
                models[name] = Listed(listed.default if listed.default in files else "", files)
        return models

    async def _known(self) -> None:
        """Asks TorchServe what it serves if that was long ago; only the first time the caller waits for it."""
        if time.monotonic() - self._asked < _HOLDS:
            return
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        if not self._answers:
            await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        self._asked = time.monotonic()
        found = await asyncio.to_thread(self._find)
        if found is None:
            self._answers = False
            return
        store = self._store or found.store
        if self._catalogue is None or self._catalogue.folder != store:
            self._catalogue = Catalogue(store)
        try:
            self._served = await asyncio.to_thread(management.served, found.server)
            self._answers = True
        except OuzelError as error:  # predictions may still be answered: what was served counts
            _log.warning("TorchServe does not say what it serves: %s", error)
            self._answers = False

    def _place(self) -> Place | None:
        found = self._find()
        return None if found is None else found.place

    def _processes(self, model: str, version: str) -> frozenset[int] | None:
        found = self._find()
        if found is None:
            return None
        described = management.versions(found.server, model, version)
        workers = [worker for each in described for worker in each["workers"]]
        return frozenset(int(worker["pid"]) for worker in workers if worker["status"] == "READY")
