"""ModelService: the models that jobs start from and end in, in the store and in the TorchServe that runs.

Files and TorchServe are asked in threads, beside the event loop. torch stays out of this process.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from google.protobuf.empty_pb2 import Empty

from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel.ledger.denials import Denials
from ouzel.ledger.recorder import Event, Recorder
from ouzel.model_files import ModelFile, card
from ouzel.torchserve import pool, publication
from ouzel.torchserve.publication import PublicationFailed, Server, ServerUnreachable
from ouzel.torchserve.quorum import PAUSE, Agents, promote_if_served, served_by_quorum
from ouzel.worker.api.auth import unary
from ouzel.worker.api.service import Context, Service
from ouzel.worker.api.tokens import Tokens
from ouzel.worker.catalog.catalog import Catalogue
from ouzel_protos.v1 import model_pb2 as pb
from ouzel_protos.v1.model_pb2_grpc import ModelServiceServicer

_log = logging.getLogger(__name__)
_THREADS = 8
_PATIENCE = 20.0  # s for a quorum of agents to load a version that is to become the default


class ModelService(Service, ModelServiceServicer):
    """The service of models.

    Args:
        catalogue: The models.
        tokens: Tell the owners of calls.
        serving: Where TorchServe is, see `ouzel.torchserve.server.Server.found`. Every call looks again.
        agents: Tell what is served, where many TorchServes follow the store; None without agents.
        recorder: Records what is refused and what is changed.
        denials: See `Service`.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        tokens: Tokens,
        *,
        serving: Mapping[str, str] | None,
        agents: Agents | None = None,
        recorder: Recorder,
        denials: Denials | None = None,
    ) -> None:
        super().__init__(tokens, threads=_THREADS, name="models", recorder=recorder, denials=denials)
        self._catalogue, self._serving, self._agents = catalogue, serving, agents
        self._files = catalogue.files
        self._changing = threading.Lock()  # the store and TorchServe change together

    @unary
    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        return await self.run(self._list, self.owner(context), request.name)

    @unary
    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.ModelDetails:
        return await self.run(self._get, self._seen(context), request.name, request.version)

    @unary
    async def DeleteModel(self, request: pb.DeleteModelRequest, context: Context) -> Empty:
        await self.run(self._delete, self.owner(context), self._seen(context), request.name, request.version)
        return Empty()

    @unary
    async def PromoteModel(self, request: pb.PromoteModelRequest, context: Context) -> pb.Model:
        args = self.owner(context), self._seen(context), request.name, request.version
        if self._agents is None:
            return await self.run(self._promote, *args)
        # The agents are waited for without a thread, and looked at in other ones than all other calls have. The store
        # changes in one step, so that nobody has to wait for those who wait for the agents.
        agents, end = Agents(self._agents.registry, self._agents.quorum), time.monotonic() + _PATIENCE
        while True:
            try:
                return await self.run_slow(self._promote_if_served, agents, *args)
            except ServerUnreachable:
                if time.monotonic() >= end:
                    raise
            await asyncio.sleep(PAUSE)

    def _seen(self, context: Context) -> Catalogue:
        return self._catalogue.seen_by(self.owner(context), self.may_name(context))

    def _list(self, owner: str, name: str) -> pb.ListModelsResponse:
        files = self._files.of(name) if name else self._files.all()
        seen = [file for file in files if file.seen_by(owner)]
        return pb.ListModelsResponse(models=self._messages(seen))

    def _get(self, catalogue: Catalogue, name: str, version: str) -> pb.ModelDetails:
        reference = f"{name}@{version}" if version else name
        file = catalogue.file(reference, "name")
        known = catalogue.model(f"{file.name}@{file.version}" if file.version else file.name, "name")
        details = pb.ModelDetails(model=self._messages([file])[0], labels=known.labels)
        for layer, shape in known.layers.items():
            details.layers.add(name=layer, shape=shape)
        details.preprocessing.update(card(file.path).get("preprocessing", {}))
        return details

    def _delete(self, owner: str, seen: Catalogue, name: str, version: str) -> None:
        with self._changing:
            file = self._changeable(seen, name, version)
            versions = self._files.of(file.name)
            if file == self._files.default_of(versions) and len(versions) > 1:
                raise FailedPrecondition(
                    f"version: {version} is the default of {name!r}; promote another one first", field="version"
                )
            publication.withdraw_served(
                self._server(), self._files, file, unless_default=True, record=self._record(owner)
            )

    def _promote(self, owner: str, seen: Catalogue, name: str, version: str) -> pb.Model:
        with self._changing:
            file = self._changeable(seen, name, version)
            with _removed(name, version):
                publication.promote_served(
                    self._server(), self._files, file.name, file.version, record=self._record(owner)
                )
            return self._messages([file])[0]

    def _promote_if_served(self, agents: Agents, owner: str, seen: Catalogue, name: str, version: str) -> pb.Model:
        file = self._changeable(seen, name, version)
        with _removed(name, version):
            promote_if_served(agents, self._files, file.name, file.version, record=self._record(owner))
        return self._messages([file])[0]

    def _record(self, owner: str) -> publication.Record:
        return lambda kind, facts: self.recorder.append(Event(kind, facts, owner=owner))

    def _changeable(self, seen: Catalogue, name: str, version: str) -> ModelFile:
        """A version that is theirs who see it. Raises NotFound, InvalidArgument or FailedPrecondition."""
        if not version:
            raise InvalidArgument("version: none is named", field="version")
        file = seen.file(f"{name}@{version}", "name")
        if file.lineage is None:
            raise FailedPrecondition(
                f"name: {name!r} is a model of the operator, whom `ouzel models` lets change it; callers cannot",
                field="name",
            )
        return file

    def _messages(self, files: list[ModelFile]) -> list[pb.Model]:
        defaults = {file.path for file in self._files.defaults().values()}
        served = self._served()
        pooled = pool.is_among(served)
        return [_message(file, file.path in defaults, pooled or (file.name, file.version) in served) for file in files]

    def _served(self) -> frozenset[tuple[str, str]]:
        """Nothing if TorchServe does not say: what the store holds can be told all the same."""
        if self._agents is not None:
            return served_by_quorum(self._agents.reports(), self._agents.quorum, time.time())
        try:
            server = self._server()
            return frozenset() if server is None else publication.served(server)
        except PublicationFailed as error:
            _log.warning("%s", error)
            return frozenset()

    def _server(self) -> Server | None:
        return Server.found(self._serving)


@contextmanager
def _removed(name: str, version: str) -> Iterator[None]:
    """The words of a NotFound in the block are the operator's: they name all models."""
    try:
        yield
    except NotFound:
        raise NotFound(f"name: {name!r} {version} was removed just now", field="name") from None


def _message(file: ModelFile, is_default: bool, served: bool) -> pb.Model:
    message = pb.Model(
        name=file.name,
        version=file.version,
        is_default=is_default,
        arch=file.arch,
        digest=file.digest,
        size=file.size,
        classes=file.classes,
        served=served,
        task=file.task,
    )
    if file.lineage is not None:
        message.lineage.update(file.lineage)
    return message
