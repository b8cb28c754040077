"""gRPC and tasks of the blocking client: tasks run in threads, and can be cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any, Generic, ParamSpec, TypeVar

import grpc
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


class _Scope:
    """The calls and pauses of a group of threads, to be ended together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: set[Any] = set()
        self.cancelled = threading.Event()

    def add(self, call: Any) -> None:
        with self._lock:
            self._calls.add(call)
        if self.cancelled.is_set():
            call.cancel()

    def discard(self, call: Any) -> None:
        with self._lock:
            self._calls.discard(call)

    def cancel(self) -> None:
        self.cancelled.set()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()


_scope: ContextVar[_Scope | None] = ContextVar("ouzel_scope", default=None)


class Connection:
    """A channel to the services, opened by the first call. Safe to share between threads."""

    def __init__(self, address: Address, max_response_bytes: int, credentials: grpc.ChannelCredentials | None) -> None:
        self._address = address
        self._options = channel_options(address.target, max_response_bytes)
        self._credentials = credentials
        self._metadata = (("authorization", f"Bearer {address.token}"),) if address.token else ()
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._closed = False

    def predict(self, request: PredictionsRequest, timeout: float) -> bytes:
        """One attempt: the answer's bytes. Raises errors of the client's tree."""
        with tracing.called(PREDICTIONS, self._metadata) as metadata:
            tracing.carry(metadata, request.input)
            prediction: bytes = self._call(PREDICTIONS, request, PredictionResponse, timeout, metadata).prediction
            return prediction

    def call(self, method: str, request: Message, answer: type[M], timeout: float) -> M:
        """One attempt of a method with one answer."""
        with tracing.called(method, self._metadata) as metadata:
            return self._call(method, request, answer, timeout, metadata)

    def _call(self, method: str, request: Message, answer: type[M], timeout: float, metadata: tracing.Metadata) -> M:
        multi = self._open().unary_unary(
            method, request_serializer=_serialized, response_deserializer=answer.FromString
        )
        found: M
        if (scope := _scope.get()) is None:  # nobody cancels it: it needs no thread that could hear of that
            try:
                found = multi(request, timeout=timeout, metadata=metadata)
                return found
            except grpc.RpcError as error:
                raise from_call(error, self._address.target) from None
        call = multi.future(request, timeout=timeout, metadata=metadata)
        scope.add(call)
        try:
            found = call.result()
            return found
        except grpc.FutureCancelledError:
            raise CancelledError from None
        except grpc.RpcError:
            raise from_call(call, self._address.target) from None
        finally:
            call.cancel()  # no effect on one that is done; ends it when this thread is interrupted
            scope.discard(call)

    def stream(self, method: str, request: Message, answer: type[M], timeout: float) -> Generator[M]:
        """One attempt of a method with a stream of answers. Close it, or read it to its end."""
        multi = self._open().unary_stream(
            method, request_serializer=_serialized, response_deserializer=answer.FromString
        )
        with tracing.called(method, self._metadata) as metadata:
            call = multi(request, timeout=timeout, metadata=metadata)
            try:
                yield from call
            except grpc.RpcError:
                raise from_call(call, self._address.target) from None
            finally:
                call.cancel()  # no effect on one that has ended

    def send(self, method: str, requests: Iterator[Message], answer: type[M], timeout: float) -> M:
        """One attempt of a method that is sent a stream. What `requests` raises ends the call, and is raised."""
        multi = self._open().stream_unary(
            method, request_serializer=_serialized, response_deserializer=answer.FromString
        )
        failed: list[Exception] = []

        def guarded() -> Iterator[Message]:
            try:
                yield from requests
            except Exception as error:  # gRPC would swallow it, in a thread of its own
                failed.append(error)
                raise

        with tracing.called(method, self._metadata) as metadata:
            call = multi.future(guarded(), timeout=timeout, metadata=metadata)
            try:
                found: M = call.result()
                return found
            except grpc.FutureCancelledError:
                raise CancelledError from None
            except grpc.RpcError:
                if failed:
                    raise failed[0] from None
                raise from_call(call, self._address.target) from None
            finally:
                call.cancel()  # no effect on one that is done; ends it when this thread is interrupted

    def converse(self, method: str, answer: type[M], timeout: float) -> Conversation[M]:
        """One attempt of a method with streams in both directions."""
        multi = self._open().stream_stream(
            method, request_serializer=_serialized, response_deserializer=answer.FromString
        )
        sent: SimpleQueue[Message | None] = SimpleQueue()
        call = multi(iter(sent.get, None), timeout=timeout, metadata=tracing.within(self._metadata))
        return Conversation(call, sent, self._address.target)

    def close(self) -> None:
        """End what is in flight and close the channel."""
        with self._lock:
            channel, self._channel, self._closed = self._channel, None, True
        if channel is not None:
            channel.close()

    def _open(self) -> grpc.Channel:
        with self._lock:
            if self._closed:
                raise ConfigurationError("the client is closed")
            if self._channel is None:
                if self._credentials is None:
                    self._channel = grpc.insecure_channel(self._address.target, self._options)
                else:
                    self._channel = grpc.secure_channel(self._address.target, self._credentials, self._options)
            return self._channel


class Conversation(Generic[M]):
    """Messages in both directions, one after the other. Close it."""

    def __init__(self, call: Any, sent: SimpleQueue[Message | None], target: str) -> None:
        self._call, self._sent, self._target = call, sent, target

    def send(self, message: Message) -> None:
        """Send a message. That the other end is gone shows when its answer is received."""
        self._sent.put(message)

    def receive(self) -> M | None:
        """The next message, or None at the end. Raises errors of the client's tree."""
        try:
            return next(self._call, None)
        except grpc.RpcError:
            raise from_call(self._call, self._target) from None

    def close(self) -> None:
        """End it."""
        self._sent.put(None)  # ends the thread that sends
        self._call.cancel()  # no effect on one that has ended


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def sleep(seconds: float) -> None:
    """Pause; ended early, with CancelledError, when the tasks that this one belongs to are called off."""
    scope = _scope.get()
    if scope is None:
        time.sleep(seconds)
    elif scope.cancelled.wait(seconds):
        raise CancelledError


def run(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call what may block."""
    return function(*args, **kwargs)


Task = Future


class Tasks:
    """Runs at most `limit` tasks at a time. Leaving the context calls off those that still run, and waits for them."""

    def __init__(self, limit: int) -> None:
        self._executor = ThreadPoolExecutor(limit, thread_name_prefix="ouzel-client")
        self._scope = _Scope()

    def start(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin a task; `done()` and `result()` tell how it goes."""

        def in_scope() -> T:
            _scope.set(self._scope)
            return function(*args, **kwargs)

        return self._executor.submit(in_scope)

    def __enter__(self) -> Tasks:
        return self

    def __exit__(self, *exc: object) -> None:
        self._scope.cancel()
        self._executor.shutdown(wait=True, cancel_futures=True)
