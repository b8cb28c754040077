"""Requests over HTTP, observed: around the application, so that whatever is answered counts."""

from __future__ import annotations

import logging
from typing import Any

from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ouzel.gateway.observing.metrics import OTHER
from ouzel.gateway.observing.observer import REST, Observed, Observer
from ouzel.telemetry import request_ids
from ouzel.telemetry.calls import read_headers

CALL = "ouzel.call"  # in the scope
_HEALTH = ("/v2/health/", "/v2/models/{model}/ready", "/v2/models/{model}/versions/{version}/ready")
# Statuses that Starlette answers by itself, and those of answers without an error.
_CODES = {404: "NOT_FOUND", 405: "INVALID_ARGUMENT", 499: "CANCELLED", 503: "UNAVAILABLE"}


class ObservedApp:
    """An application whose requests are observed, and whose answers carry the id of their request.

    Args:
        app: Answers.
        observer: Observes.
    """

    def __init__(self, app: ASGIApp, observer: Observer) -> None:
        self._app, self._observer = app, observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._observer.call(REST, OTHER, read_headers(scope["headers"])) as call:
            scope[CALL] = call
            own = [(request_ids.HEADER.encode(), call.request_id.encode())]

            async def received() -> Message:
                message = await receive()
                call.received += len(message.get("body", b""))
                return message

            async def sent(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", ()), *own]
                    _note(call, scope, message["status"])
                else:
                    call.sent += len(message.get("body", b""))
                await send(message)

            try:
                await self._app(scope, received, sent)
            except Exception:
                call.code = "INTERNAL"
                raise


def observed(scope: Scope) -> Observed | None:
    """The call of a request; None outside of an `ObservedApp`."""
    call: Observed | None = scope.get(CALL)
    return call


def _note(call: Observed, scope: Scope, status: int) -> None:
    route: Any = scope.get("route")
    if isinstance(route, Route) and scope["method"] in (route.methods or ()) and call.method == OTHER:
        call.method = f"{scope['method']} {route.path}"
        if route.path.startswith(_HEALTH):
            call.level = logging.DEBUG
    if call.code == "OK" and status >= 400:
        call.code = _CODES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
