"""What is told of each call: it is counted, has a line in the log, an id, and a span where traces are wanted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ouzel.gateway.access.caller import Caller
from ouzel.gateway.metrics import GatewayMetrics
from ouzel.telemetry import request_ids, tracing

_log = logging.getLogger("ouzel.gateway.calls")
GRPC, REST = "grpc", "rest"


@dataclass
class Observed:
    """A call that is being answered; whoever knows more of it writes it here.

    Attributes:
        protocol: "grpc" or "rest".
        method: What is called, of few values.
        request_id: See `ouzel.telemetry.request_ids`.
        code: Name of the status it ends with.
        tenant: Whose caller calls; "" before that is known.
        received: Bytes.
        sent: Bytes.
        level: Of its line in the log.
    """

    protocol: str
    method: str
    request_id: str
    code: str = "OK"
    tenant: str = ""
    received: int = 0
    sent: int = 0
    level: int = logging.INFO
    parent: Mapping[str, str] = field(default_factory=dict)
    since: int = field(default_factory=time.time_ns)
    span: Any = None

    def known(self, caller: Caller) -> None:
        """Who calls is known. From here on the call is traced: strangers cost no traces."""
        self.tenant = caller.tenant
        self.span = tracing.begin(self.method, kind="server", parent=self.parent, since=self.since)

    def failed(self, error: BaseException) -> None:
        """Notes how the call ends; of errors that are not ours, as callers hear it."""
        cancelled = isinstance(error, (asyncio.CancelledError, GeneratorExit))
        self.code = "CANCELLED" if cancelled else getattr(error, "code", "INTERNAL")


class Observer:
    """Observes the calls of a gateway.

    Args:
        metrics: That count them.
    """

    def __init__(self, metrics: GatewayMetrics) -> None:
        self.metrics = metrics

    @contextmanager
    def call(self, protocol: str, method: str, headers: Mapping[str, str]) -> Iterator[Observed]:
        """A call, as long as the block runs.

        Args:
            protocol: "grpc" or "rest".
            method: Of few values; it may be changed as long as the block runs.
            headers: `request_ids.HEADER` and `tracing.KEYS` of it, if they were sent.
        """
        begun = time.perf_counter()
        call = Observed(protocol, method, request_ids.begin(headers.get(request_ids.HEADER)), parent=headers)
        try:
            yield call
        except (asyncio.CancelledError, GeneratorExit) as error:
            call.failed(error)
            raise
        finally:
            seconds = time.perf_counter() - begun
            self.metrics.ended(
                call.protocol, call.method, call.code, seconds=seconds, received=call.received, sent=call.sent
            )
            if call.span is not None:
                _end(call)
            if _log.isEnabledFor(call.level):
                _tell(call, seconds)


def header_values(pairs: Any) -> dict[str, str]:
    """Those of the headers that are of interest here. pairs: (name in lower case, value), texts or bytes."""
    found: dict[str, str] = {}
    for name, value in pairs or ():
        key = name.decode("latin-1") if isinstance(name, bytes) else name
        if key in _KEYS:
            found[key] = value.decode("latin-1") if isinstance(value, bytes) else value
    return found


_KEYS = frozenset((request_ids.HEADER, *tracing.KEYS))


def _end(call: Observed) -> None:
    system = {"rpc.system": "grpc", "rpc.method": call.method} if call.protocol == GRPC else {"http.route": call.method}
    call.span.update_name(call.method)
    call.span.set_attributes({**system, "ouzel.code": call.code})
    if call.code != "OK":
        tracing.fail(call.span, call.code)
    call.span.end()


def _tell(call: Observed, seconds: float) -> None:
    ms, tenant = round(seconds * 1e3, 2), call.tenant or "-"
    fields = {
        "protocol": call.protocol,
        "method": call.method,
        "code": call.code,
        "ms": ms,
        "tenant": tenant,
        "request_id": call.request_id,
    }
    words = (call.protocol, call.method, call.code, ms, tenant, call.request_id)
    _log.log(call.level, "%s %s %s %s ms %s %s", *words, extra={"fields": fields})
