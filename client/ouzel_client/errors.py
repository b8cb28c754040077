"""The errors of the client, as one tree.

OuzelError
├── ConfigurationError       no services are found, an option is wrong, an optional package is missing
├── TransportError           the call did not get through
│   ├── Unavailable          no service answers (retried)
│   ├── Overloaded           the service has more to do than it can take (retried)
│   └── DeadlineExceeded     no answer in time
├── RequestError             the service, or the client before it sends, refuses the request
│   ├── InvalidArgument      wrong as it stands
│   ├── NotFound             no such model, version, job or artifact
│   ├── AlreadyExists        the request_id was used for another job
│   ├── Unauthenticated      no token, or one that is wrong or has expired
│   ├── PermissionDenied     the token is good, but does not allow this
│   ├── FailedPrecondition   right, but not with this model or in this state
│   └── Unimplemented        not offered by this service
├── ServerError              the service failed
│   └── DataLoss             what it had stored is damaged
├── JobError                 a job did not succeed
│   ├── JobFailed            it failed
│   ├── JobCancelled         it was cancelled
│   └── WaitTimeout          it has not ended yet; it continues
└── AmbiguousKey             several saliency maps have this key
"""

from __future__ import annotations


class OuzelError(Exception):
    """Base of all errors of the client.

    Attributes:
        message: What went wrong.
        field: The path of the field at fault, e.g. "saliency[1].target", or empty.
        retry_after: Seconds after which the service asks to try again, or 0.
    """

    def __init__(self, message: str, *, field: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.message,), self.__dict__)


class ConfigurationError(OuzelError):
    """No services are found, an option of the client is wrong, or an optional package is missing."""


class TransportError(OuzelError):
    """The call did not get through."""


class Unavailable(TransportError, ConnectionError):
    """No service answers, or the connection was lost."""


class Overloaded(TransportError):
    """The service's queue is full, or no worker is ready."""


class DeadlineExceeded(TransportError, TimeoutError):
    """There was no answer in time. The service may still work on the request."""


class RequestError(OuzelError):
    """The request is refused, and the same request will be refused again."""


class InvalidArgument(RequestError, ValueError):
    """A value is wrong. The message names the field, the value and the limit."""


class NotFound(RequestError, LookupError):
    """There is no such model, version, job or artifact."""


class AlreadyExists(RequestError):
    """The request_id was used for another job."""


class Unauthenticated(RequestError):
    """There is no token, or it is wrong or has expired."""


class PermissionDenied(RequestError):
    """Who asks is known, and may not do this: a role is missing, or the operator has not allowed it."""


class FailedPrecondition(RequestError):
    """The request is right, but not with this model or in this state."""


class Unimplemented(RequestError):
    """The service does not offer this."""


class ServerError(OuzelError):
    """The service failed. Its log has the details."""


class DataLoss(ServerError):
    """Data that the service has stored is damaged."""


class JobError(OuzelError):
    """A job did not succeed.

    Attributes:
        job: The id of the job.
    """

    def __init__(self, message: str, *, field: str = "", job: str = "") -> None:
        super().__init__(message, field=field)
        self.job = job


class JobFailed(JobError):
    """A job failed.

    Attributes:
        failure_class: "USER", "RESOURCE", "INFRASTRUCTURE" or "TIMEOUT".
        error_id: A number for the operator, who finds the details by it, or empty.
    """

    def __init__(
        self, message: str, *, field: str = "", job: str = "", failure_class: str = "", error_id: str = ""
    ) -> None:
        super().__init__(message, field=field, job=job)
        self.failure_class = failure_class
        self.error_id = error_id


class JobCancelled(JobError):
    """A job was cancelled."""


class WaitTimeout(JobError, TimeoutError):
    """A job has not ended in the time given. It continues."""


class AmbiguousKey(OuzelError, LookupError):
    """Several saliency maps have this key."""
