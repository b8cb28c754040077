"""The application behind the port of REST."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from ouzel import grpc_errors
from ouzel.gateway.observing.observer import Observer
from ouzel.gateway.rest import problems
from ouzel.gateway.rest.http_observed import ObservedApp


def make(routes: Sequence[BaseRoute], observer: Observer) -> ASGIApp:
    """The application of these routes, whose requests are observed."""
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _fault})
    app.router.redirect_slashes = False
    return ObservedApp(app, observer)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problems.of_http(error, _form(request))


async def _fault(request: Request, error: Exception) -> Response:
    return _form(request)(grpc_errors.public(error))


def _form(request: Request) -> problems.Form:
    return problems.oip if request.url.path.startswith("/v2") else problems.problem
