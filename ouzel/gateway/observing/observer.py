"""What is told of each call: it is counted, has a line in the log, an id, and a span where traces are wanted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ouzel.gateway.access.caller import Caller
from ouzel.gateway.observing.metrics import GatewayMetrics
from ouzel.telemetry import calls, tracing
from ouzel.telemetry.calls import ObservedCall

_log = logging.getLogger("ouzel.gateway.calls")
GRPC, REST = "grpc", "rest"


@dataclass(kw_only=True)
class Observed(ObservedCall):
    """A call that is being answered.

    Attributes:
        protocol: "grpc" or "rest".
        tenant: Whose caller calls; "" before that is known.
        received: Bytes.
        sent: Bytes.
        level: Of its line in the log.
    """

    protocol: str
    tenant: str = ""
    received: int = 0
    sent: int = 0
    level: int = logging.INFO

    def known(self, caller: Caller) -> None:
        """Who calls is known. From here on the call is traced: strangers cost no traces."""
        self.tenant = caller.tenant
        self.trace()


class Observer:
    """Observes the calls of a gateway.

    Args:
        metrics: That count them.
    """

    def __init__(self, metrics: GatewayMetrics) -> None:
        self.metrics = metrics

    def call(self, protocol: str, method: str, headers: Mapping[str, str]) -> AbstractContextManager[Observed]:
        """A call, as long as the block runs.

        Args:
            protocol: "grpc" or "rest".
            method: Of few values; it may be changed as long as the block runs.
            headers: Of `calls.read_headers`.
        """
        made = Observed(protocol=protocol, method=method, headers=headers)
        return calls.observed(made, self._ended, _attributes)

    def _ended(self, call: Observed, seconds: float) -> None:
        self.metrics.ended(
            call.protocol, call.method, call.code, seconds=seconds, received=call.received, sent=call.sent
        )
        if _log.isEnabledFor(call.level):
            _tell(call, seconds)


def _attributes(call: Observed) -> tracing.Attributes:
    grpc = call.protocol == GRPC
    return {"rpc.system": "grpc", "rpc.method": call.method} if grpc else {"http.route": call.method}


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
