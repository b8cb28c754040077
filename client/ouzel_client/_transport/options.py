"""The options of a client: its services and its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ouzel_client._transport.config import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, TIMEOUT
from ouzel_client._transport.retry import Retry
from ouzel_client.errors import ConfigurationError, InvalidArgument
from ouzel_protos.limits import too_small

if TYPE_CHECKING:
    import grpc


@dataclass(frozen=True)
class TransportOptions:
    """The arguments of a client, which documents them.

    Raises:
        ConfigurationError: A limit is less than one byte.
        InvalidArgument: The timeout is not a positive number of seconds.
    """

    target: str | None = None
    token: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT
    retry: Retry = field(default_factory=Retry)
    max_request_bytes: int = MAX_REQUEST_BYTES
    max_response_bytes: int = MAX_RESPONSE_BYTES
    credentials: grpc.ChannelCredentials | None = field(default=None, repr=False)
    worker: str | None = None
    worker_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("max_request_bytes", "max_response_bytes"):
            if problem := too_small(getattr(self, name), 1):
                raise ConfigurationError(f"{name}: {problem}")
        checked_timeout(self.timeout)


def checked_timeout(timeout: float) -> float:
    """The same, if it is a positive number of seconds. Raises InvalidArgument."""
    if not 0 < timeout < math.inf:
        raise InvalidArgument(f"timeout: {timeout} is not a positive number of seconds", field="timeout")
    return timeout
