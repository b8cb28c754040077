"""Errors that a caller may see: each has a message that names the field, the value and the limit.

OuzelError
├── InvalidArgument          the request is wrong as it stands
│   ├── UnsupportedMedia     not a format that is read
│   ├── NotAcceptable        no format of answer that the caller takes
│   └── TooLarge             beyond a stated limit of size
├── Unauthenticated          who asks is not known
├── PermissionDenied         who asks is known, and may not
├── NotFound                 no such model, layer, ...
├── FailedPrecondition       right, but not with this model or in this state
├── AlreadyExists            the name is taken by something else
├── Unimplemented            a part of a protocol that is not spoken here
├── ResourceExhausted        beyond what one caller may have at a time, or the disk is full
│   └── Oversized            a body or message that is larger than the caller may send
├── Unavailable              not now; whether it was done is not known
├── DataLoss                 what was stored is damaged
└── DeadlineExceeded         the caller's time was over before the work was done
"""

from __future__ import annotations

import re


class OuzelError(Exception):
    """Base of all errors.

    Attributes:
        code: The name of a gRPC status.
        http: The status of an HTTP answer.
        field: The path of the field at fault, as in `saliency[1].parameters.steps`; "" if it is none.
    """

    code = "INTERNAL"
    http = 500

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field

    @property
    def top_field(self) -> str:
        """The field of the message that `field` is in, without the names that callers give to parts of it."""
        name = re.match("[a-z_]*", self.field)
        return name.group() if name else ""


class InvalidArgument(OuzelError, ValueError):
    """The request is wrong, whatever the state of the service."""

    code = "INVALID_ARGUMENT"
    http = 400


class UnsupportedMedia(InvalidArgument):
    """The file has a format that is not read here."""

    http = 415


class NotAcceptable(InvalidArgument):
    """The caller takes no format that answers have."""

    http = 406


class TooLarge(InvalidArgument):
    """The request, or its answer, is larger than the limit."""

    http = 413


class Unauthenticated(OuzelError):
    """Nobody known is asking: the credentials are missing, wrong or over."""

    code = "UNAUTHENTICATED"
    http = 401


class PermissionDenied(OuzelError):
    """Who asks is known, and may not do this."""

    code = "PERMISSION_DENIED"
    http = 403


class NotFound(OuzelError, LookupError):
    """There is nothing of that name."""

    code = "NOT_FOUND"
    http = 404


class FailedPrecondition(OuzelError):
    """The request is sound, but not for this model or in this state."""

    code = "FAILED_PRECONDITION"
    http = 400


class AlreadyExists(OuzelError):
    """The name is taken."""

    code = "ALREADY_EXISTS"
    http = 409


class Unimplemented(OuzelError):
    """A part of a protocol that is not spoken here."""

    code = "UNIMPLEMENTED"
    http = 501


class ResourceExhausted(OuzelError):
    """Something is used up: a quota, the disk, the memory.

    Attributes:
        retry_after: Seconds after which it may work; 0 if time alone does not help.
    """

    code = "RESOURCE_EXHAUSTED"
    http = 429

    def __init__(self, message: str, *, field: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, field=field)
        self.retry_after = retry_after


class Oversized(ResourceExhausted):
    """The request has more bytes than the caller may send; gRPC itself has the same code for this."""

    http = 413


class Unavailable(OuzelError):
    """The service cannot answer now; the same request may work later."""

    code = "UNAVAILABLE"
    http = 503


class DataLoss(OuzelError):
    """What was stored is damaged."""

    code = "DATA_LOSS"
    http = 500


class DeadlineExceeded(OuzelError, TimeoutError):
    """The time that the caller gave is over."""

    code = "DEADLINE_EXCEEDED"
    http = 504


_KINDS: dict[tuple[str, int], type[OuzelError]] = {
    (kind.code, kind.http): kind
    for kind in (
        InvalidArgument,
        UnsupportedMedia,
        NotAcceptable,
        TooLarge,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        FailedPrecondition,
        AlreadyExists,
        Unimplemented,
        ResourceExhausted,
        Oversized,
        Unavailable,
        DataLoss,
        DeadlineExceeded,
    )
}
_PLAIN: dict[str, type[OuzelError]] = {
    code: kind for (code, _), kind in reversed(_KINDS.items())
}  # the first of a code


def kind_of(code: str, http: int = 0) -> type[OuzelError]:
    """The error that another part of the service has told of.

    Args:
        code: The name of a gRPC status.
        http: The status of an HTTP answer, which tells more kinds apart; 0 if it was not told.

    Returns:
        Its class; `OuzelError` itself for statuses that are nobody's fault but ours.
    """
    return _KINDS.get((code, http)) or _PLAIN.get(code, OuzelError)
