"""Errors that a caller may see: each has a message that names the field, the value and the limit.

OuzelError
├── InvalidArgument          the request is wrong as it stands
│   ├── UnsupportedMedia     not a format that is read
│   ├── NotAcceptable        no format of answer that the caller takes
│   └── TooLarge             beyond a stated limit of size
├── NotFound                 no such model, layer, ...
├── FailedPrecondition       right, but not with this model or in this state
├── AlreadyExists            the name is taken by something else
├── ResourceExhausted        beyond what one caller may have at a time, or the disk is full
├── Unavailable              not now; whether it was done is not known
├── DataLoss                 what was stored is damaged
└── DeadlineExceeded         the caller's time was over before the work was done
"""

from __future__ import annotations


class OuzelError(Exception):
    """Base of all. code: a status name of gRPC; http: the status of REST; field: the path of the field at fault."""

    code = "INTERNAL"
    http = 500

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class InvalidArgument(OuzelError, ValueError):
    code = "INVALID_ARGUMENT"
    http = 400


class UnsupportedMedia(InvalidArgument):
    http = 415


class NotAcceptable(InvalidArgument):
    http = 406


class TooLarge(InvalidArgument):
    http = 413


class NotFound(OuzelError, LookupError):
    code = "NOT_FOUND"
    http = 404


class FailedPrecondition(OuzelError):
    code = "FAILED_PRECONDITION"
    http = 400


class AlreadyExists(OuzelError):
    code = "ALREADY_EXISTS"
    http = 409


class ResourceExhausted(OuzelError):
    """retry_after: seconds after which it may work; 0 if time alone does not help."""

    code = "RESOURCE_EXHAUSTED"
    http = 429

    def __init__(self, message: str, *, field: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, field=field)
        self.retry_after = retry_after


class Unavailable(OuzelError):
    code = "UNAVAILABLE"
    http = 503


class DataLoss(OuzelError):
    code = "DATA_LOSS"
    http = 500


class DeadlineExceeded(OuzelError, TimeoutError):
    code = "DEADLINE_EXCEEDED"
    http = 504
