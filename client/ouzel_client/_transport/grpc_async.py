"""gRPC and tasks of the asyncio client: the twin of `grpc_sync`, name by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Generic, ParamSpec, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from ouzel_client._transport import tracing
from ouzel_client._transport.config import Address, channel_options
from ouzel_client._transport.status import from_call
from ouzel_client.errors import ConfigurationError
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionResponse, PredictionsRequest

M = TypeVar("M", bound=Message)
P = ParamSpec("P")
T = TypeVar("T")


class Connection:
    """A channel to the services, opened by the first call, in the event loop of that call."""

    def __init__(self, address: Address, max_response_bytes: int, credentials: grpc.ChannelCredentials | None) -> None:
        self._address = address
        self._options = channel_options(address.target, max_response_bytes)
        self._credentials = credentials
        self._metadata = (("authorization", f"Bearer {address.token}"),) if address.token else ()
        self._channel: grpc.aio.Channel | None = None
        self._closed = False

    async def predict(self, request: PredictionsRequest, timeout: float) -> bytes:
        """One attempt: the answer's bytes. Raises errors of the client's tree."""
        with tracing.called(PREDICTIONS, self._metadata) as metadata:
            tracing.carry(metadata, request.input)
            answer = await self._call(PREDICTIONS, request, PredictionResponse, timeout, metadata)
            prediction: bytes = answer.prediction
            return prediction

    async def call(self, method: str, request: Message, answer: type[M], timeout: float) -> M:
        """One attempt of a method with one answer."""
        with tracing.called(method, self._metadata) as metadata:
            return await self._call(method, request, answer, timeout, metadata)

    async def _call(
        self, method: str, request: Message, answer: type[M], timeout: float, metadata: tracing.Metadata
    ) -> M:
        multi = self._open().unary_unary(
            method, request_serializer=_serialized, response_deserializer=answer.FromString
        )
        try:
            result: M = await multi(request, timeout=timeout, metadata=metadata)
            return result
        except grpc.aio.AioRpcError as error:
            raise from_call(error, self._address.target) from None

    async def stream(self, method: str, request: Message, answer: type[M], timeout: float) -> AsyncGenerator[M]:
        """One attempt of a method with a stream of answers. Close it, or read it to its end."""
        multi = self._open().unary_stream(
            method, request_serializer=_serialized, response_deserializer=answer.FromString
        )
        with tracing.called(method, self._metadata) as metadata:
            call = multi(request, timeout=timeout, metadata=metadata)
            try:
                async for message in call:
                    yield message
            except grpc.aio.AioRpcError as error:
                raise from_call(error, self._address.target) from None
            finally:
                call.cancel()  # no effect on one that has ended

    async def send(self, method: str, requests: Iterator[Message], answer: type[M], timeout: float) -> M:
        """One attempt of a method that is sent a stream. What `requests` raises ends the call, and is raised."""
        multi = self._open().stream_unary(
            method, request_serializer=_serialized, response_deserializer=answer.FromString
        )
        failed: list[Exception] = []

        async def guarded() -> AsyncGenerator[Message]:
            try:
                while (request := await asyncio.to_thread(next, requests, None)) is not None:
                    yield request
            except Exception as error:  # gRPC would log it, in a task of its own
                failed.append(error)
                raise

        with tracing.called(method, self._metadata) as metadata:
            call = multi(guarded(), timeout=timeout, metadata=metadata)
            try:
                result: M = await call
                return result
            except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
                if failed:
                    raise failed[0] from None
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise from_call(error, self._address.target) from None
            finally:
                call.cancel()  # no effect on one that has ended

    def converse(self, method: str, answer: type[M], timeout: float) -> Conversation[M]:
        """One attempt of a method with streams in both directions."""
        multi = self._open().stream_stream(
            method, request_serializer=_serialized, response_deserializer=answer.FromString
        )
        metadata = tracing.within(self._metadata)
        return Conversation(multi(timeout=timeout, metadata=metadata), self._address.target)

    async def close(self) -> None:
        """End what is in flight and close the channel."""
        channel, self._channel, self._closed = self._channel, None, True
        if channel is not None:
            await channel.close()

    def _open(self) -> grpc.aio.Channel:
        if self._closed:
            raise ConfigurationError("the client is closed")
        if self._channel is None:
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self._address.target, self._options)
            else:
                self._channel = grpc.aio.secure_channel(self._address.target, self._credentials, self._options)
        return self._channel


class Conversation(Generic[M]):
    """Messages in both directions, one after the other. Close it."""

    def __init__(self, call: Any, target: str) -> None:
        self._call, self._target = call, target

    async def send(self, message: Message) -> None:
        """Send a message. That the other end is gone shows when its answer is received."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(message)

    async def receive(self) -> M | None:
        """The next message, or None at the end. Raises errors of the client's tree."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise from_call(error, self._target) from None
        return None if message is grpc.aio.EOF else message

    async def close(self) -> None:
        """End it."""
        self._call.cancel()  # no effect on one that has ended


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


async def sleep(seconds: float) -> None:
    """Pause."""
    await asyncio.sleep(seconds)


async def run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call what may block, beside the event loop."""
    return await asyncio.to_thread(function, *args, **kwargs)


class Task(Generic[T]):
    """A task that was started."""

    def __init__(self, task: asyncio.Task[T]) -> None:
        self._task = task

    def done(self) -> bool:
        return self._task.done()

    async def result(self) -> T:
        return await self._task


class Tasks:
    """Runs at most `limit` tasks at a time. Leaving the context calls off those that still run, and waits for them."""

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Begin a task; `done()` and `result()` tell how it goes."""

        async def when_free() -> T:
            async with self._free:
                return await function(*args, **kwargs)

        task = asyncio.create_task(when_free())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Task(task)

    async def __aenter__(self) -> Tasks:
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
