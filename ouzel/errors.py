"""Errors that a caller may see: each has a message that names the field, the value and the limit.

OuzelError
├── InvalidArgument          the request is wrong as it stands
│   ├── UnsupportedMedia     not a format that is read
│   └── TooLarge             beyond a stated limit of size
├── NotFound                 no such model, layer, ...
├── FailedPrecondition       right, but not with this model or in this state
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


class TooLarge(InvalidArgument):
    http = 413


class NotFound(OuzelError, LookupError):
    code = "NOT_FOUND"
    http = 404


class FailedPrecondition(OuzelError):
    code = "FAILED_PRECONDITION"
    http = 400


class DeadlineExceeded(OuzelError, TimeoutError):
    code = "DEADLINE_EXCEEDED"
    http = 504
