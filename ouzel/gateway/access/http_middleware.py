"""Access for an application of HTTP (ASGI): who is not known is denied before the body is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ouzel.errors import OuzelError, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable
from ouzel.gateway.access.call import Call, Denied, begin, nobody
from ouzel.gateway.access.caller import Access, Caller
from ouzel.gateway.access.http_certificates import CERTIFICATE

_REALM = 'Bearer realm="ouzel"'


class AccessMiddleware:
    """Finds the caller of each request, and puts the call into `call.current()` and `request.state.call`.

    Bodies are limited to what the tenant may send. Errors of Ouzel that the application raises before it has begun an
    answer become problems, too.

    Args:
        app: What is behind the door.
        access: Decides.
        denied: Hears of each request that is denied here.
        open: Paths that everybody may ask for.
    """

    def __init__(
        self, app: ASGIApp, access: Access, *, denied: Denied = nobody, open: frozenset[str] = frozenset()
    ) -> None:
        self._app, self._access, self._denied, self._open = app, access, denied, open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http" or scope["path"] in self._open:
            await self._app(scope, receive, send)
            return
        begun, method = False, f"{scope['method']} {scope['path']}"

        async def told(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            headers = Headers(scope=scope)
            call = self._call(method, headers, scope)
            length = headers.get("content-length", "")
            call.caller.check_body(int(length[:18]) if length.isdecimal() else 0)
            begin(call)
            state = {**scope.get("state", {}), "call": call}
        except OuzelError as error:
            self._denied(method, error.code)
            await problem(error, given="authorization" in headers)(scope, receive, send)
            return
        try:
            await self._app({**scope, "state": state}, _limited(receive, call.caller), told)
        except OuzelError as error:
            if begun:
                raise
            await problem(error)(scope, receive, send)

    def _call(self, method: str, headers: Headers, scope: Scope) -> Call:
        given = headers.getlist("authorization")
        if len(given) > 1:
            raise Unauthenticated("the header authorization comes more than once")
        certificate = scope.get("state", {}).get(CERTIFICATE)
        caller = self._access.identify(given[0] if given else None, certificate() if certificate else None)
        return Call(caller, method, self._access, self._denied)


def _limited(receive: Receive, caller: Caller) -> Receive:
    """Receives a body as long as the caller may send it, whatever length was announced."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        caller.check_body(size)
        return message

    return limited


def problem(error: OuzelError, *, given: bool = False) -> Response:
    """An error as a problem (RFC 9457), with the headers that belong to its status.

    Args:
        error: What went wrong.
        given: Whether there were credentials, so that the caller hears that they are not good.
    """
    values = {
        "type": "about:blank",
        "title": HTTPStatus(error.http).phrase,
        "status": error.http,
        "detail": str(error),
        "code": error.code,
    }
    if error.field:
        values["field"] = error.field
    return JSONResponse(values, error.http, _headers(error, given), "application/problem+json")


async def handle(_request: Request, error: Exception) -> Response:
    """As an exception handler of Starlette, for `OuzelError`."""
    assert isinstance(error, OuzelError)
    return problem(error)


def _headers(error: OuzelError, given: bool) -> Mapping[str, Any]:
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": _REALM + (', error="invalid_token"' if given else "")}
    if isinstance(error, PermissionDenied):
        return {"WWW-Authenticate": _REALM + ', error="insufficient_scope"'}
    if isinstance(error, ResourceExhausted) and error.retry_after:
        return {"Retry-After": str(math.ceil(error.retry_after))}
    return {"Retry-After": "1"} if isinstance(error, Unavailable) else {}
