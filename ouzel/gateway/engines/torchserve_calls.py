"""Single calls to TorchServe's gRPC inference, and what its statuses mean."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from ouzel.errors import DeadlineExceeded, NotFound, OuzelError, ResourceExhausted, TooLarge, Unavailable
from ouzel.gateway.channels import OPTIONS
from ouzel.gateway.engine import Row
from ouzel.gateway.engines.process_watch import Processes, ProcessWatch, Watched
from ouzel.left_calls import PART, LeftCalls, new_id
from ouzel.model_file import ModelFile
from ouzel.telemetry import tracing
from ouzel_protos.local import token
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionResponse, PredictionsRequest
from ouzel_protos.v1 import explain_pb2 as pb

_Call: TypeAlias = "grpc.aio.UnaryUnaryCall[Any, PredictionResponse]"
_log = logging.getLogger(__name__)
_Code = grpc.StatusCode
_RECOVERY = 60.0  # s in which a model whose worker died may have none
_REFUSED = 1.0  # s before a second attempt beside the first is made again that was not taken
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
        left: Folder in which its processes look for callers who have left; None if they do not.
    """

    grpc: str
    key_file: Path
    left: Path | None = None


class TorchServeCalls:
    """Makes calls, one per row, each of them twice at most.

    Args:
        place: Where TorchServe is now; None if it is not. Asked again after it has failed.
        processes: Ids of the ready processes of a model and version; None if that cannot be told. It may block.
        max_request_bytes: That TorchServe takes.
        retried: Called with each second attempt.
    """

    def __init__(
        self,
        place: Callable[[], Place | None],
        processes: Processes,
        max_request_bytes: int,
        retried: Callable[[], None] = lambda: None,
    ) -> None:
        self._place, self._largest, self._retried = place, max_request_bytes, retried
        self._watch, self._left = ProcessWatch(processes), LeftCalls()
        self._known: Place | None = None
        self._token = ""
        self._channel: grpc.aio.Channel | None = None
        self._replaced: list[grpc.aio.Channel] = []  # calls may still be in flight there
        self._died: dict[str, float] = {}

    async def close(self) -> None:
        """Ends what is in flight."""
        self._watch.close()
        self._left.close()
        for channel in (*self._replaced, self._channel):
            if channel is not None:
                await channel.close()

    def stalled(self, model: str, version: str = "") -> float:
        """Seconds so far in which calls of a version, or of any, waited because it had no process."""
        return self._watch.stalled(model, version)

    async def answer(
        self, model: str, version: str, row: Row, deadline: float, pooled: ModelFile | None = None
    ) -> pb.Explanation:
        """The envelope of one row.

        A call whose worker died is made once more: repeating it changes nothing. If that fails, too, the error says so
        at once. So is a call that may have been lost with a worker, without an answer; the first one goes on beside it.

        Args:
            model: Its name in TorchServe.
            version: Its version there.
            row: What is asked.
            deadline: On the clock of `time.monotonic`.
            pooled: Whose answer is wanted, if the model is the pool.

        Raises:
            OuzelError: See `Engine.predict`.
        """
        parts = {"image": row.image, "tensor": row.tensor, "options": row.options.SerializeToString()}
        if pooled is not None:  # nothing of a row comes here under these names
            address = {"model": pooled.name, "version": pooled.version, "digest": pooled.digest}
            parts |= {key: value.encode() for key, value in address.items()}
        call = new_id()
        parts[PART] = call.encode()
        request = PredictionsRequest(
            model_name=model, model_version=version, input={key: part for key, part in parts.items() if part}
        )
        if (size := request.ByteSize()) > self._largest:
            raise TooLarge(
                f"image: a row of {size} bytes is larger than {self._largest}, which the service takes", field="image"
            )
        if time.monotonic() >= deadline:
            raise DeadlineExceeded("the time of the call is over")
        attempts: list[_Call] = []
        with self._watch.call(model, version, deadline) as watched, _traced(request):
            try:
                attempts.append(await self._attempt(request, deadline))
                return await self._answered(request, deadline, attempts, watched)
            finally:
                cancelled = [each.cancel() for each in attempts]  # no effect on those that are done
                if any(cancelled) and self._known is not None and self._known.left is not None:
                    self._left.tell(self._known.left, call, deadline)

    async def _answered(
        self, request: PredictionsRequest, deadline: float, attempts: list[_Call], watched: Watched
    ) -> pb.Explanation:
        """The answer of the first attempt, or of a second one: after the first has failed, or beside it."""
        (first,) = attempts
        await watched.until(first)
        if not first.done():
            self._died[request.model_name] = time.monotonic()
        while not first.done():  # it may have been lost
            watched.again(expected=0)
            self._retried()
            second = await self._attempt(request, deadline)
            attempts.append(second)
            while not (first.done() or second.done()):
                await watched.until(first, second)
                watched.check(first, second)
            if first.done():
                break
            try:
                return await self._read(request.model_name, second)
            except _AgainError as error:
                raise Unavailable(error.words) from None
            except (ResourceExhausted, Unavailable):  # it was not taken: the queue is full, or there is no process yet
                attempts.remove(second)
                await watched.until(first, seconds=_REFUSED)
        try:
            return await self._read(request.model_name, first)
        except _AgainError:
            attempts.remove(first)
        watched.again(expected=1)
        if not attempts:
            await asyncio.sleep(random.uniform(*_PAUSE))
            if time.monotonic() >= deadline:
                raise DeadlineExceeded("the worker of the model died, and the time was over")
            await self._look()
            self._retried()
            attempts.append(await self._attempt(request, deadline))
        return await self._last(request.model_name, attempts[0], watched)

    async def _last(self, model: str, call: _Call, watched: Watched) -> pb.Explanation:
        while not call.done():
            await watched.until(call)
            watched.check(call)
        try:
            return await self._read(model, call)
        except _AgainError as error:
            raise Unavailable(error.words) from None

    async def _attempt(self, request: PredictionsRequest, deadline: float) -> _Call:
        channel = await self._connected()
        call = channel.unary_unary(
            PREDICTIONS,
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )
        left = deadline - time.monotonic()
        return call(request, timeout=max(left, 1e-3), metadata=(("authorization", f"Bearer {self._token}"),))

    async def _read(self, model: str, call: _Call) -> pb.Explanation:
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            raise self._translated(model, error) from None
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


@contextmanager
def _traced(request: PredictionsRequest) -> Iterator[None]:
    """A span, which the model's process finds in the request: metadata of gRPC does not come that far."""
    if not tracing.on():
        yield
        return
    attributes = {"ouzel.model": request.model_name, "ouzel.version": request.model_version}
    with tracing.span("torchserve/Predictions", kind="client", attributes=attributes):
        for key, value in tracing.carried().items():
            request.input[key] = value.encode()
        yield


class _AgainError(Exception):
    """A second attempt may succeed."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words
