"""The protocol's service over gRPC."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from google.protobuf.message import Message

from ouzel.bounded_messages import elements, parsed
from ouzel.errors import NotFound
from ouzel.gateway.access.caller import Caller
from ouzel.gateway.door import Door
from ouzel.gateway.grpc_calls import Context, Unary, seconds_left
from ouzel.gateway.oip import grpc_messages, metadata, triton
from ouzel.gateway.oip.infer import infer
from ouzel_protos.oip import SERVICE
from ouzel_protos.oip import inference_pb2 as pb

_LARGE, _FEW = 2**18, 500  # bytes and elements of a message; with more, it is read in a thread
_Method = Callable[[bytes, Caller, Context], Awaitable[Message]]


class OipService:
    """See `ouzel.gateway.grpc_calls.Service`.

    Args:
        door: To the engine.
        most_rows: Of one request.
    """

    def __init__(self, door: Door, most_rows: int) -> None:
        self._door, self._most_rows = door, most_rows
        methods: Mapping[str, _Method] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
            "RepositoryIndex": self._repository_index,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
        }
        self._methods = {f"/{SERVICE}/{name}": _serialized(method) for name, method in methods.items()}

    def paths(self) -> Iterable[str]:
        """See `Service`."""
        return self._methods

    def method(self, path: str) -> Unary | None:
        """See `Service`."""
        return self._methods.get(path)

    async def _server_live(self, _content: bytes, _caller: Caller, _context: Context) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, _content: bytes, _caller: Caller, _context: Context) -> Message:
        return pb.ServerReadyResponse(ready=await self._door.ready())

    async def _server_metadata(self, _content: bytes, _caller: Caller, _context: Context) -> Message:
        return pb.ServerMetadataResponse(
            name=metadata.SERVER, version=metadata.version(), extensions=metadata.EXTENSIONS
        )

    async def _model_ready(self, content: bytes, caller: Caller, _context: Context) -> Message:
        asked = parsed(pb.ModelReadyRequest, content)
        try:
            await self._door.describe(caller, asked.name, asked.version)
        except NotFound:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=await self._door.ready())

    async def _model_metadata(self, content: bytes, caller: Caller, _context: Context) -> Message:
        asked = parsed(pb.ModelMetadataRequest, content)
        return grpc_messages.model_metadata(await self._door.describe(caller, asked.name, asked.version))

    async def _repository_index(self, content: bytes, caller: Caller, _context: Context) -> Message:
        parsed(pb.RepositoryIndexRequest, content)
        return grpc_messages.repository_index(await self._door.models(caller))

    async def _model_config(self, content: bytes, caller: Caller, _context: Context) -> Message:
        asked = parsed(pb.ModelConfigRequest, content)
        return pb.ModelConfigResponse(
            config=triton.config(await self._door.describe(caller, asked.name, asked.version))
        )

    async def _model_statistics(self, content: bytes, caller: Caller, _context: Context) -> Message:
        asked = parsed(pb.ModelStatisticsRequest, content)
        return triton.statistics(await self._door.statistics(caller, asked.name, asked.version))

    async def _model_infer(self, content: bytes, caller: Caller, context: Context) -> Message:
        deadline = self._door.deadline(seconds_left(context))
        large = len(content) > _LARGE or elements(pb.ModelInferRequest, content, _FEW) > _FEW
        aside = partial(self._door.aside, caller, deadline)
        message = await aside(parsed, pb.ModelInferRequest, content) if large else parsed(pb.ModelInferRequest, content)
        with self._door.admit(caller, "explain", message.model_name):
            read = grpc_messages.infer_request
            request = await aside(read, message) if large else read(message)
            deadline = min(deadline, self._door.deadline(request.seconds))
            version, tensors = await infer(self._door, caller, request, deadline, self._most_rows)
            return grpc_messages.infer_response(request, version, tensors)


def refusal(path: str) -> str:
    """Why a method is not spoken here."""
    method = path.rpartition("/")[2][:60]
    if path.startswith(f"/{SERVICE}/"):
        if method == "ModelStreamInfer":
            return "ModelStreamInfer: answers do not come in parts; ask ModelInfer"
        if "SharedMemory" in method:
            return f"{method}: tensors in shared memory are not read; send their bytes"
        if method.startswith("RepositoryModel"):
            return f"{method}: models are loaded and unloaded by the operator"
    return f"{path[:120]}: there is no such method here"


def _serialized(method: _Method) -> Unary:
    async def answer(content: bytes, caller: Caller, context: Context) -> bytes:
        return (await method(content, caller, context)).SerializeToString()

    return answer
