"""The gateway's metrics. Labels have few values, none of which a stranger chooses (docs/metrics.md lists them)."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ouzel.telemetry.metrics import CALL_BUCKETS, registry

_MOST_MODELS = 1000  # that rows are counted by; those of others are counted together
OTHER = "other"


class GatewayMetrics:
    """What is counted. Each gateway has its own.

    Attributes:
        registry: Holds all of them.
    """

    def __init__(self) -> None:
        self.registry: CollectorRegistry = registry()
        self._requests = self._counter("requests", "Calls that have ended.", "protocol", "method", "code")
        self._seconds = self._histogram(
            "request_seconds", "From the beginning of a call to its end; streams to theirs.", "protocol", "method"
        )
        self._received = self._counter("received_bytes", "Bodies and messages of calls.", "protocol")
        self._sent = self._counter("sent_bytes", "Bodies and messages of answers.", "protocol")
        self._denied = self._counter(
            "denied", "Calls that were refused for who calls, what it may, or its quota.", "code"
        )
        self._shed = self._counter("shed", "Requests that were refused because they would have been answered too late.")
        self._rows = self._counter("rows", "Rows that were answered.", "model")
        self._engine = self._histogram("engine_seconds", "From handing rows of a request to the engine to the answers.")
        self._retries = self._counter("engine_retries", "Rows that were asked for again because their worker had died.")
        self._models: set[str] = set()
        self._ended: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._bytes = {each: (self._received.labels(each), self._sent.labels(each)) for each in ("grpc", "rest")}

    def ended(self, protocol: str, method: str, code: str, *, seconds: float, received: int, sent: int) -> None:
        """Counts a call that has ended."""
        if (known := self._ended.get((protocol, method, code))) is None:
            known = self._requests.labels(protocol, method, code), self._seconds.labels(protocol, method)
            self._ended[protocol, method, code] = known
        known[0].inc()
        known[1].observe(seconds)
        into, out = self._bytes[protocol]
        into.inc(received)
        out.inc(sent)

    def denied(self, code: str) -> None:
        """Counts a call that was refused at the door."""
        self._denied.labels(code).inc()

    def shed(self) -> None:
        """Counts a request that was refused for its being late."""
        self._shed.inc()

    def asked(self, seconds: float) -> None:
        """Counts a request that the engine has answered, or failed to."""
        self._engine.observe(seconds)

    def answered(self, model: str, rows: int) -> None:
        """Counts rows of a model that was there to answer them."""
        if model not in self._models:
            if len(self._models) >= _MOST_MODELS:
                model = OTHER
            self._models.add(model)
        self._rows.labels(model).inc(rows)

    def retried(self) -> None:
        """Counts a second attempt of a row."""
        self._retries.inc()

    def watch(self, name: str, words: str, value: Callable[[], float]) -> None:
        """Has a value asked for whenever the metrics are read, in another thread."""
        Gauge(f"ouzel_gateway_{name}", words, registry=self.registry).set_function(value)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"ouzel_gateway_{name}", words, labels, registry=self.registry)

    def _histogram(self, name: str, words: str, *labels: str) -> Histogram:
        return Histogram(f"ouzel_gateway_{name}", words, labels, registry=self.registry, buckets=CALL_BUCKETS)
