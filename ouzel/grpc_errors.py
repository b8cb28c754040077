"""Errors on gRPC's wire: a status with google.rpc's details, and never more of a bug than an id."""

from __future__ import annotations

import logging
import uuid
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from ouzel.errors import OuzelError, ResourceExhausted, Unavailable

_log = logging.getLogger(__name__)
_DOMAIN = "ouzel"
DETAILS = "grpc-status-details-bin"
UNAVAILABLE_SECONDS = 1.0  # after which it may work again


def public(error: Exception) -> OuzelError:
    """What a caller may know of an error: of one that is not our own an id; the log explains it."""
    if isinstance(error, OuzelError):
        return error
    error_id = uuid.uuid4().hex[:12]
    _log.error("error %s", error_id, exc_info=error)
    return OuzelError(f"internal error {error_id}; the server's log says more")


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """Ends a call with what the caller may know of an error.

    Args:
        context: Of the call.
        error: See `public`.
    """
    told = public(error)
    code = grpc.StatusCode[told.code]
    status = Status(code=code.value[0], message=str(told), details=[_packed(each) for each in _details(told)])
    before = context.trailing_metadata() or ()  # what was set replaces it otherwise
    await context.abort(code, str(told), (*before, (DETAILS, status.SerializeToString())))
    raise AssertionError


def retry_after(error: OuzelError) -> float:
    """Seconds after which the same request may work; 0 if time alone does not help."""
    if error.code == Unavailable.code:
        return UNAVAILABLE_SECONDS
    return error.retry_after if isinstance(error, ResourceExhausted) else 0.0


def _details(error: OuzelError) -> list[Message]:
    messages: list[Message] = [details.ErrorInfo(reason=error.code, domain=_DOMAIN)]
    if error.field:
        violation = details.BadRequest.FieldViolation(field=error.field, description=str(error))
        messages.append(details.BadRequest(field_violations=[violation]))
    if seconds := retry_after(error):
        delay = Duration()
        delay.FromMicroseconds(round(seconds * 1e6))
        messages.append(details.RetryInfo(retry_delay=delay))
    return messages


def _packed(message: Message) -> Packed:
    out = Packed()
    out.Pack(message)
    return out
