"""Calls over HTTP: who calls, deadlines, and what a caller who leaves takes along."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ouzel import grpc_errors
from ouzel.errors import InvalidArgument
from ouzel.gateway.access.caller import BEHALF, Caller
from ouzel.gateway.access.certificate import Certificate
from ouzel.gateway.access.http_certificates import CERTIFICATE
from ouzel.gateway.door import Door
from ouzel.gateway.rest import bodies
from ouzel.gateway.rest.http_observed import observed
from ouzel.gateway.rest.problems import Form

T = TypeVar("T")
TIMEOUT = "x-ouzel-timeout"  # s
Handler = Callable[[Request, Caller], Awaitable[Response]]


class Calls:
    """What all routes share.

    Args:
        door: Who may call.
        most_bytes: Of a body, whoever sends it.
        body_seconds: In which a body must have come.
    """

    def __init__(self, door: Door, most_bytes: int, body_seconds: float) -> None:
        self.door = door
        self._most_bytes, self._seconds = most_bytes, body_seconds

    def route(self, handler: Handler, form: Form) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint of a handler: errors become answers, and the call counts as under way.

        Args:
            handler: Given the request and who calls.
            form: Of errors.
        """

        @functools.wraps(handler)
        async def endpoint(request: Request) -> Response:
            call = observed(request.scope)
            with self.door.call(called(request)):
                try:
                    given, behalf = (request.headers.getlist(name) for name in ("authorization", BEHALF))
                    caller = self.door.identify(given, _certificate(request), behalf)
                    if call is not None:
                        call.known(caller)
                    with self.door.under_way.interruptible():
                        return await handler(request, caller)
                except ClientDisconnect:
                    return Response(status_code=499)  # nobody reads it
                except Exception as error:  # noqa: BLE001 - the caller hears what it may
                    if call is not None:
                        call.failed(error)
                    return form(grpc_errors.public(error))

        return endpoint

    async def body(self, request: Request, caller: Caller, most: int = 0) -> bytes:
        """The body, within the bounds of the server and the caller. Raises as `bodies.read`.

        Args:
            request: Of which nothing has been read.
            caller: Who sends it.
            most: Bytes that it may have at most, if the route takes no more than that.
        """
        least = min(self._most_bytes, caller.limits.body_bytes, most or self._most_bytes)
        return await bodies.read(request, least, self._seconds, self.aside(request, caller))

    def aside(self, request: Request, caller: Caller) -> bodies.Aside:
        """What does the work of a request in threads, until the caller leaves or has waited long enough."""
        deadline = self.door.deadline(seconds(request))

        async def run(function: Callable[..., T], *args: Any) -> T:
            return await self.door.aside(caller, deadline, function, *args)

        return run


def called(request: Request) -> str:
    """What a request calls, with the path as its route has it: names of models say nothing of what was called."""
    path = str(getattr(request.scope.get("route"), "path", ""))
    for name in ("service", "method"):  # these are few
        path = path.replace(f"{{{name}}}", str(request.path_params.get(name, "")))
    return f"{request.method} {path}"


def _certificate(request: Request) -> Certificate | None:
    read = request.scope.get("state", {}).get(CERTIFICATE)
    return None if read is None else read()


def seconds(request: Request) -> float | None:
    """Seconds that the caller waits, by the header X-Ouzel-Timeout; None without one. Raises InvalidArgument."""
    text = single(request, TIMEOUT)
    if text is None:
        return None
    try:
        value = math.nan if "_" in text else float(text)  # Python reads 1_0 as 10
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidArgument(f"{TIMEOUT}: {text!r:.40} is not a number of seconds", field=TIMEOUT)
    return value


def single(request: Request, name: str) -> str | None:
    """A header; None without it. Raises InvalidArgument if it comes more than once: which one counts?"""
    given = request.headers.getlist(name)
    if len(given) > 1:
        raise InvalidArgument(f"{name}: comes more than once", field=name)
    return given[0] if given else None


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of some work, which is called off when the caller leaves.

    Args:
        request: Whose body has been read.
        work: To do.

    Raises:
        ClientDisconnect: The caller has left.
    """
    task = asyncio.current_task()
    assert task is not None
    left = False

    def leave(_watch: asyncio.Task[None]) -> None:
        nonlocal left
        if not _watch.cancelled():
            left = True
            task.cancel()

    watch = asyncio.create_task(_gone(request))
    watch.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if not left or task.uncancel():  # we were called off ourselves
            raise
        raise ClientDisconnect from None
    finally:
        watch.remove_done_callback(leave)
        watch.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
