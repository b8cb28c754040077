"""Errors over HTTP: `{"error": "..."}` where the Open Inference Protocol is spoken, problem details elsewhere.

Problem details are those of RFC 9457. Neither tells more of a bug than an id.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from ouzel import grpc_errors
from ouzel.errors import OuzelError

PROBLEM = "application/problem+json"
Form = Callable[[OuzelError], Response]


def problem(error: OuzelError) -> Response:
    """An error as problem details."""
    return JSONResponse(members(error), error.http, _headers(error), PROBLEM)


def members(error: OuzelError) -> dict[str, Any]:
    """The members of problem details; `code` and `field` are our own."""
    content = {"type": "about:blank", "title": _title(error), "status": error.http, "detail": str(error)}
    return content | {"code": error.code} | ({"field": error.field} if error.field else {})


def oip(error: OuzelError) -> Response:
    """An error as the Open Inference Protocol has it."""
    return JSONResponse({"error": str(error)}, error.http, _headers(error))


def of_http(error: HTTPException, form: Form) -> Response:
    """What Starlette itself refuses: paths and methods that are not there."""
    told = OuzelError(f"{error.detail}: there is no such resource, or it has not this method")
    told.http = error.status_code  # of this one
    told.code = "NOT_FOUND" if error.status_code == 404 else "INVALID_ARGUMENT"
    response = form(told)
    if error.headers:
        response.headers.update(error.headers)
    return response


def _headers(error: OuzelError) -> dict[str, str]:
    headers = {"WWW-Authenticate": "Bearer"} if error.http == 401 else {}
    if seconds := grpc_errors.retry_after(error):
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    if error.http in (408, 413):
        headers["Connection"] = "close"  # what is left of the body is not read
    return headers


def _title(error: OuzelError) -> str:
    return error.code.replace("_", " ").capitalize()
