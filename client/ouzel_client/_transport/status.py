"""One table from status to exception, for gRPC's status codes and for those in an answer, which share their numbers."""

from __future__ import annotations

from typing import Any

import grpc

from ouzel_client._transport.config import is_loopback
from ouzel_client.errors import (
    AlreadyExists,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OuzelError,
    Overloaded,
    PermissionDenied,
    ServerError,
    TransportError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from ouzel_protos import local
from ouzel_protos.v1.explain_pb2 import Error

_Code = grpc.StatusCode

ERRORS: dict[grpc.StatusCode, type[OuzelError]] = {
    _Code.CANCELLED: TransportError,
    _Code.INVALID_ARGUMENT: InvalidArgument,
    _Code.DEADLINE_EXCEEDED: DeadlineExceeded,
    _Code.NOT_FOUND: NotFound,
    _Code.ALREADY_EXISTS: AlreadyExists,
    _Code.DATA_LOSS: DataLoss,
    _Code.PERMISSION_DENIED: PermissionDenied,
    _Code.RESOURCE_EXHAUSTED: Overloaded,
    _Code.FAILED_PRECONDITION: FailedPrecondition,
    _Code.OUT_OF_RANGE: InvalidArgument,
    _Code.UNIMPLEMENTED: Unimplemented,
    _Code.UNAVAILABLE: Unavailable,
    _Code.UNAUTHENTICATED: Unauthenticated,
}
_BY_NUMBER = {code.value[0]: code for code in _Code}
_DETAILS = "grpc-status-details-bin"

# Not every version of a model is loaded at all times.
_LOAD = "; if the model store holds it, `ouzel models load NAME@VERSION` loads it"
_ANSWER = "the answer is larger than max_response_bytes: "

# What TorchServe reports as INTERNAL, or gRPC in this process by a status of its own: known by a part of its message.
# The last goes round it.
_BY_MESSAGE = (
    (_Code.INTERNAL, "Model not found", _Code.NOT_FOUND, "{}" + _LOAD),
    (_Code.INTERNAL, "does not exist for model", _Code.NOT_FOUND, "{}" + _LOAD),  # no such version
    (_Code.INTERNAL, "model_name is required", _Code.INVALID_ARGUMENT, "{}"),
    (_Code.INTERNAL, "has no worker", _Code.RESOURCE_EXHAUSTED, "{}"),  # the queue is full, or no worker is up yet
    (_Code.INTERNAL, "Worker died", _Code.UNAVAILABLE, "{}"),  # a new one is on its way
    (_Code.INTERNAL, "Internal error from Core", _Code.UNAVAILABLE, "{}"),  # asyncio wrote to a call that had ended
    (_Code.RESOURCE_EXHAUSTED, "Received message larger than max", _Code.INVALID_ARGUMENT, _ANSWER + "{}"),
)
_HINTS = {
    _Code.UNAUTHENTICATED: "set OUZEL_TOKEN, or pass token=...",
    _Code.CANCELLED: "a request larger than the service takes is cut off like this",
}


def from_call(call: Any, target: str) -> OuzelError:
    """The exception for a call that gRPC reports as failed, or for its error; with details if the worker gave some."""
    trailers = dict(call.trailing_metadata() or ())
    if _DETAILS in trailers and (error := _from_details(trailers[_DETAILS])) is not None:
        return error
    return from_status(call.code(), call.details(), target)


def _from_details(data: bytes) -> OuzelError | None:
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2 as details
    from google.rpc.status_pb2 import Status

    try:
        status = Status.FromString(data)
    except DecodeError:
        return None
    info, request, retry = details.ErrorInfo(), details.BadRequest(), details.RetryInfo()
    for each in status.details:
        for message in (info, request, retry):
            each.Unpack(message)
    code = _BY_NUMBER.get(status.code)
    if info.domain != "ouzel" or code is None:
        return None
    field = request.field_violations[0].field if request.field_violations else ""
    seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return ERRORS.get(code, ServerError)(status.message, field=field, retry_after=seconds)


def from_status(code: grpc.StatusCode, details: str | None, target: str) -> OuzelError:
    """The same for a status without trailers. `target` is the address that was called."""
    # TorchServe appends the name of a Java exception on a line of its own.
    reason = (details or "").partition("\n")[0].strip()
    if code is _Code.PERMISSION_DENIED and "Token" in reason:  # so TorchServe refuses those whom it does not know
        code = _Code.UNAUTHENTICATED
    for raw, part, meaning, note in _BY_MESSAGE:
        if code is raw and part in reason:
            return ERRORS[meaning](note.format(reason))
    if code is _Code.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"{target}: no answer in time")
    if code is _Code.UNAVAILABLE and "Prediction failed" not in reason:
        reason = f"no services answer ({reason.partition(';')[0]:.150}); {_remedy(target)}"
    hint = f" ({_HINTS[code]})" if code in _HINTS else ""
    return ERRORS.get(code, ServerError)(f"{target}: {reason or code.name}{hint}")


def _remedy(target: str) -> str:
    """What to do about services that do not answer. Local ones may be on their way up again."""
    if is_loopback(target) and (local.supervisor("torchserve") or local.supervisor("worker")):
        return "they may be restarting: `ouzel status` shows it"
    return "`ouzel up` starts local ones"


def from_answer(error: Error) -> OuzelError:
    """The exception for an error that an answer carries."""
    code = _BY_NUMBER.get(int(error.code), _Code.UNKNOWN)
    return ERRORS.get(code, ServerError)(error.message or code.name, field=error.field)
