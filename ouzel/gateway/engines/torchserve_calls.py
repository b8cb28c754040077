"""Single calls to TorchServe's gRPC inference, and what its statuses mean."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from ouzel.errors import DeadlineExceeded, NotFound, OuzelError, ResourceExhausted, TooLarge, Unavailable
from ouzel.gateway.channels import OPTIONS
from ouzel.gateway.engine import Row
from ouzel.telemetry import tracing
from ouzel_protos.local import token
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionResponse, PredictionsRequest
from ouzel_protos.v1 import explain_pb2 as pb

_log = logging.getLogger(__name__)
_Code = grpc.StatusCode
_RECOVERY = 60.0  # s in which a model whose worker died may have none
_PAUSE = (0.05, 0.15)  # s before the second attempt: those that failed together do not return together
_OPTIONS = [
    *OPTIONS,
    ("grpc.keepalive_time_ms", 330_000),  # Java servers cut off those who ping more often than every five minutes
    ("grpc.keepalive_timeout_ms", 20_000),
]


@dataclass(frozen=True)
class Place:
    """Where TorchServe is.

    Attributes:
        grpc: "host:port" of its gRPC inference.
        key_file: With its tokens.
    """

    grpc: str
    key_file: Path


class TorchServeCalls:
    """Makes calls, one per row, each of them twice at most.

    Args:
        place: Where TorchServe is now; None if it is not. Asked again after it has failed.
        max_request_bytes: That TorchServe takes.
        retried: Called with each second attempt.
    """

    def __init__(
        self, place: Callable[[], Place | None], max_request_bytes: int, retried: Callable[[], None] = lambda: None
    ) -> None:
        self._place, self._largest, self._retried = place, max_request_bytes, retried
        self._known: Place | None = None
        self._token = ""
        self._channel: grpc.aio.Channel | None = None
        self._replaced: list[grpc.aio.Channel] = []  # calls may still be in flight there
        self._died: dict[str, float] = {}

    async def close(self) -> None:
        """Ends what is in flight."""
        for channel in (*self._replaced, self._channel):
            if channel is not None:
                await channel.close()

    async def answer(self, model: str, version: str, row: Row, deadline: float) -> pb.Explanation:
        """The envelope of one row.

        A call whose worker died is made once more: repeating it changes nothing. If that fails, too, the error says so
        at once.

        Raises:
            OuzelError: See `Engine.predict`.
        """
        parts = {"image": row.image, "tensor": row.tensor, "options": row.options.SerializeToString()}
        request = PredictionsRequest(
            model_name=model, model_version=version, input={key: part for key, part in parts.items() if part}
        )
        if (size := request.ByteSize()) > self._largest:
            raise TooLarge(f"image: a row of {size} bytes is larger than {self._largest}, which the service takes")
        if time.monotonic() >= deadline:
            raise DeadlineExceeded("the time of the call is over")
        try:
            return await self._traced(request, deadline)
        except _AgainError:
            await asyncio.sleep(random.uniform(*_PAUSE))
            if time.monotonic() >= deadline:
                raise DeadlineExceeded("the worker of the model died, and the time was over") from None
            await self._look()
            self._retried()
        try:
            return await self._traced(request, deadline)
        except _AgainError as error:
            raise Unavailable(error.words) from None

    async def _traced(self, request: PredictionsRequest, deadline: float) -> pb.Explanation:
        """An attempt, which the model's process finds its parent in: metadata of gRPC does not come that far."""
        if not tracing.on():
            return await self._attempt(request, deadline)
        attributes = {"ouzel.model": request.model_name, "ouzel.version": request.model_version}
        with tracing.span("torchserve/Predictions", kind="client", attributes=attributes):
            if parent := tracing.carried().get(tracing.PARENT):
                request.input[tracing.PARENT] = parent.encode()
            return await self._attempt(request, deadline)

    async def _attempt(self, request: PredictionsRequest, deadline: float) -> pb.Explanation:
        channel = await self._connected()
        call = channel.unary_unary(
            PREDICTIONS,
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )
        left = deadline - time.monotonic()
        metadata = (("authorization", f"Bearer {self._token}"),)
        try:
            response = await call(request, timeout=max(left, 1e-3), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise self._translated(request.model_name, error) from None
        try:
            return pb.Explanation.FromString(response.prediction)
        except DecodeError:
            raise OuzelError("the answer is no Explanation: the model is not served by Ouzel's handler") from None

    def _translated(self, model: str, error: grpc.aio.AioRpcError) -> Exception:
        """What a status of TorchServe means; the table of the client (`ouzel_client._transport.status`) is the same."""
        code, said = error.code(), (error.details() or "").partition("\n")[0]
        _log.info("TorchServe answered a call of %s with %s: %s", model, code.name, said)  # callers do not hear it
        if code is _Code.DEADLINE_EXCEEDED:
            return DeadlineExceeded("the time of the call was over before there was an answer")
        if code is _Code.INTERNAL:
            return self._internal(model, said)
        if code is _Code.UNAVAILABLE:
            if "Prediction failed" in said:
                self._died[model] = time.monotonic()
            return _AgainError("the service of the models does not answer; it may be starting again")
        if code in (_Code.PERMISSION_DENIED, _Code.UNAUTHENTICATED):  # it was started again, with new tokens
            return _AgainError("the service of the models is being started again")
        return OuzelError(f"the service of the models answered {code.name}")

    def _internal(self, model: str, said: str) -> Exception:
        if "Model not found" in said or "does not exist for model" in said:
            return NotFound(f"model: {model!r} is not served in this version", field="model")
        if "has no worker" in said:  # so TorchServe says both
            if time.monotonic() - self._died.get(model, -_RECOVERY) < _RECOVERY:
                return Unavailable("the worker of the model died; a new one is on its way")
            return ResourceExhausted("the queue of the model is full", retry_after=1.0)
        if "Worker died" in said or "Internal error from Core" in said:
            self._died[model] = time.monotonic()
            return _AgainError("the worker of the model died twice; a new one is on its way")
        return OuzelError("the service of the models answered INTERNAL")

    async def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            await self._look()
        if self._channel is None:
            raise Unavailable("the service of the models is not running")
        return self._channel

    async def _look(self) -> None:
        """Finds TorchServe again: it may have another address by now, and has other tokens."""
        place = await asyncio.to_thread(self._place)
        if place is None:
            return
        try:
            self._token = await asyncio.to_thread(token, place.key_file, "inference")
        except (OSError, ValueError):
            return  # it is being written
        if self._known is None or place.grpc != self._known.grpc:
            if self._channel is not None:
                self._replaced.append(self._channel)
            self._channel = grpc.aio.insecure_channel(place.grpc, _OPTIONS)
        self._known = place


class _AgainError(Exception):
    """A second attempt may succeed."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words
