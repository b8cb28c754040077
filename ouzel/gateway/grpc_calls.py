"""Calls of gRPC as bytes: who calls is known before anything is read, and nothing is waited for without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

import grpc
import grpc.aio

from ouzel import grpc_errors
from ouzel.errors import DeadlineExceeded, InvalidArgument, Oversized, Unimplemented
from ouzel.gateway.access.caller import BEHALF, Caller
from ouzel.gateway.access.certificate import Certificate
from ouzel.gateway.door import Door
from ouzel.gateway.observing.metrics import OTHER
from ouzel.gateway.observing.observer import GRPC, Observed
from ouzel.telemetry import request_ids
from ouzel.telemetry.calls import read_headers

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Unary = Callable[[bytes, Caller, Context], Awaitable[bytes]]


class Service(Protocol):
    """Answers the methods of some paths."""

    def paths(self) -> Iterable[str]:
        """These paths."""

    def method(self, path: str) -> Unary | None:
        """What answers the calls of a path; None if it is not this service's."""


class UnaryHandler(grpc.GenericRpcHandler):
    """Methods with one message in each direction.

    They are served as methods that take streams: gRPC itself would wait for the message without end, and callers who
    never send one could fill the server.

    Args:
        door: Who may call.
        services: That are asked in turn.
        seconds: In which a message must have come.
    """

    def __init__(self, door: Door, services: list[Service], seconds: float) -> None:
        self._door, self._services, self._seconds = door, services, seconds

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a call; None for methods of other handlers."""
        for each in self._services:
            if (method := each.method(handler_call_details.method)) is not None:
                return grpc.stream_unary_rpc_method_handler(self._answering(handler_call_details.method, method))
        return None

    def _answering(self, path: str, method: Unary) -> Callable[[AsyncIterator[bytes], Context], Awaitable[bytes]]:
        name = path.rpartition("/")[2]

        async def answer(requests: AsyncIterator[bytes], context: Context) -> bytes:
            with self._door.call(path), observed(self._door, name, context) as call:
                try:
                    call.known(caller := identified(self._door, context))
                    message = await self._message(requests, caller)
                    call.received = len(message)
                    with self._door.under_way.interruptible():
                        content = await method(message, caller, context)
                    call.sent = len(content)
                    return content
                except grpc.aio.AbortError:
                    raise
                except Exception as error:  # noqa: BLE001 - the caller hears what it may
                    call.failed(error)
                    await grpc_errors.abort(context, error)

        return answer

    async def _message(self, requests: AsyncIterator[bytes], caller: Caller) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                message = await anext(aiter(requests), None)
        except TimeoutError:
            raise DeadlineExceeded(f"the request did not come within {self._seconds:g} s") from None
        if message is None:
            raise InvalidArgument("the call ended without a request")
        check_size(len(message), caller)
        return message


class Refusing(grpc.GenericRpcHandler):
    """Says of methods that nobody else has that they are not spoken here; callers without a name hear only that.

    Args:
        door: Who may call.
        words: The reason, by the path of a method.
    """

    def __init__(self, door: Door, words: Callable[[str], str]) -> None:
        self._door, self._words = door, words

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler, which reads nothing."""
        path = handler_call_details.method

        async def refuse(_requests: Any, context: Context) -> None:
            with self._door.call(path), observed(self._door, OTHER, context) as call:
                try:
                    call.known(identified(self._door, context))
                    raise Unimplemented(self._words(path))
                except Exception as error:  # noqa: BLE001 - the caller hears what it may
                    call.failed(error)
                    await grpc_errors.abort(context, error)

        return grpc.stream_stream_rpc_method_handler(refuse)


@contextmanager
def observed(door: Door, method: str, context: Context) -> Iterator[Observed]:
    """Observes a call, whose answer gets its id. method: of few values."""
    with door.observer.call(GRPC, method, read_headers(context.invocation_metadata())) as call:
        context.set_trailing_metadata(((request_ids.HEADER, call.request_id),))
        yield call


def identified(door: Door, context: Context) -> Caller:
    """Who calls. Raises as `Door.identify`."""
    sent = [(key, str(value)) for key, value in context.invocation_metadata() or () if key in ("authorization", BEHALF)]
    given, behalf = ([value for key, value in sent if key == name] for name in ("authorization", BEHALF))
    shown = list((context.auth_context() or {}).get("x509_pem_cert") or ())
    return door.identify(given, Certificate.of_pem(bytes(shown[0])) if shown else None, behalf)


def seconds_left(context: Context) -> float | None:
    """Seconds that the caller waits; None if it did not say."""
    left = context.time_remaining()
    return None if left is None else max(left, 1e-3)


def check_size(size: int, caller: Caller) -> None:
    """Raises Oversized for a message that is larger than the caller's may be."""
    if size > caller.limits.body_bytes:
        raise Oversized(
            f"request: {size} bytes are more than {caller.limits.body_bytes}, the most that the caller may send",
            field="request",
        )
