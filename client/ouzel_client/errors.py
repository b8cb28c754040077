"""What can go wrong, as one tree:

OuzelError
├── ConfigurationError       no services are found, an option is wrong, an optional package is missing
├── TransportError           the call did not get through
│   ├── Unavailable          nobody answers (retried)
│   ├── Overloaded           the service has more to do than it can take (retried)
│   └── DeadlineExceeded     no answer in time
├── RequestError             the service, or the client before it sends, refuses the request
│   ├── InvalidArgument      wrong as it stands
│   ├── NotFound             no such model or version
│   ├── Unauthenticated      no token, or one that is wrong or has expired
│   ├── FailedPrecondition   right, but not with this model or in this state
│   └── Unimplemented        not offered by this service
├── ServerError              the service failed
└── AmbiguousKey             a key that fits several saliency maps
"""

from __future__ import annotations


class OuzelError(Exception):
    """Base of all. `field` is the path of the field at fault, e.g. "saliency[1].target", or empty."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.message,), {"field": self.field})


class ConfigurationError(OuzelError):
    """No services are found, an option of the client is wrong, or an optional package is missing."""


class TransportError(OuzelError):
    """The call did not get through."""


class Unavailable(TransportError, ConnectionError):
    """Nobody answers, or the connection broke."""


class Overloaded(TransportError):
    """The service's queue is full, or no worker is ready."""


class DeadlineExceeded(TransportError, TimeoutError):
    """No answer in time. The service may still be at work on the request."""


class RequestError(OuzelError):
    """The request is refused; the same request will be refused again."""


class InvalidArgument(RequestError, ValueError):
    """The message names the field, the value and the limit."""


class NotFound(RequestError, LookupError):
    """No such model or version."""


class Unauthenticated(RequestError):
    """No token, or one that is wrong or has expired."""


class FailedPrecondition(RequestError):
    """The request is right, but not with this model or in this state."""


class Unimplemented(RequestError):
    """The service does not offer this."""


class ServerError(OuzelError):
    """The service failed; its log says more."""


class AmbiguousKey(OuzelError, LookupError):
    """Several saliency maps go by this key."""
