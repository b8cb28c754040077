"""How the gateway listens, and what it bounds."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ouzel.checks import is_loopback, within
from ouzel.errors import InvalidArgument
from ouzel.gateway.access.caller import Access
from ouzel.gateway.access.open import OpenAccess
from ouzel.gateway.worker.place import WorkerOptions
from ouzel.telemetry.metrics import MetricsOptions

_MOST_BYTES = 2**31 - 1


class Tls(Protocol):
    """Keys and certificates for both ports."""

    @property
    def expires(self) -> float:
        """When the certificate ends, in seconds since the epoch."""

    def grpc(self) -> Any:
        """`grpc.ServerCredentials` for the port of gRPC."""

    def http(self) -> ssl.SSLContext:
        """For the port of REST."""


@dataclass(frozen=True)
class GatewayOptions:
    """Options of the gateway.

    Attributes:
        host: Address to listen on.
        rest_port: 0 selects a free one.
        grpc_port: 0 selects a free one.
        access: Who may call; None lets everybody in, on loopback only.
        ledger: Finds the folder of the log that refusals come into; None while there is none.
        worker: Where jobs, data sets, models and audits are asked for; None offers none.
        tls: Keys and certificates; None listens in plain text.
        health: Socket of the file system at which health is told, too, whatever callers of the ports must show.
        max_body_bytes: Of one request, whoever sends it. The tenant's own limit may be lower.
        max_rows: Of one request.
        max_rows_under_way: Of one model, at a time.
        timeout: Seconds that a call may take.
        body_timeout: Seconds in which a request must have come.
        grace: Seconds that calls under way have when the gateway is told to stop.
        max_calls: At a time, of each protocol.
        metrics: Where its numbers are read; None serves none.

    Raises:
        InvalidArgument: A value is out of its range, or strangers could come in.
    """

    host: str = "127.0.0.1"
    rest_port: int = 8000
    grpc_port: int = 8001
    access: Access | None = None
    ledger: Callable[[], Path | None] = lambda: None
    worker: WorkerOptions | None = None
    tls: Tls | None = None
    health: Path | None = None
    max_body_bytes: int = 64 * 2**20
    max_rows: int = 64
    max_rows_under_way: int = 512
    timeout: float = 120.0
    body_timeout: float = 30.0
    grace: float = 30.0
    max_calls: int = 2000
    metrics: MetricsOptions | None = None

    def __post_init__(self) -> None:
        within("rest_port", self.rest_port, 0, 65535)
        within("grpc_port", self.grpc_port, 0, 65535)
        within("max_body_bytes", self.max_body_bytes, 1024, _MOST_BYTES)
        within("max_rows", self.max_rows, 1, 4096)
        within("max_rows_under_way", self.max_rows_under_way, 1, 2**20)
        within("max_calls", self.max_calls, 1, 2**20)
        within("timeout", self.timeout, 0.001, 86_400, unit="s")
        within("body_timeout", self.body_timeout, 0.001, 86_400, unit="s")
        within("grace", self.grace, 0, 86_400, unit="s")
        if self.rest_port == self.grpc_port != 0:
            raise InvalidArgument(f"grpc_port: {self.grpc_port} is the port of REST, too", field="grpc_port")
        if self.access is None and not is_loopback(self.host):
            raise InvalidArgument(
                f"host: {self.host!r} is not loopback, and nothing says who may call; configure access, or listen on "
                "127.0.0.1",
                field="host",
            )

    @property
    def who(self) -> Access:
        """What decides who may call."""
        return OpenAccess() if self.access is None else self.access
