"""The worker's metrics: what is counted as it happens. `gauges` has what is looked at when they are read."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from ouzel.telemetry.metrics import CALL_BUCKETS, JOB_BUCKETS, registry

DENIED = "UNAUTHENTICATED"


class WorkerMetrics:
    """What is counted. Each worker has its own; docs/metrics.md lists them.

    Attributes:
        registry: Holds all of them.
    """

    def __init__(self) -> None:
        self.registry: CollectorRegistry = registry()
        self._requests = self._counter("requests", "Calls that have ended.", "method", "code")
        self._seconds = self._histogram(
            "request_seconds", "From the beginning of a call to its end; streams to theirs.", CALL_BUCKETS, "method"
        )
        self._claims = self._counter("claims", "Jobs that this worker has claimed.", "kind")
        words = "Attempts that have ended, by what the job was then."
        self._attempts = self._counter("attempts", words, "kind", "outcome")
        words = "From a job's creation to its first claim."
        self._waited = self._histogram("job_wait_seconds", words, JOB_BUCKETS, "kind")
        self._ran = self._histogram("job_run_seconds", "From an attempt's start to its end.", JOB_BUCKETS, "kind")
        self._lost = self._counter("leases_lost", "Jobs that were taken back from workers that were gone.")
        self._webhooks = self._counter("webhooks", "Attempts to tell of a job, by receiver.", "receiver", "outcome")
        self._database = self._counter("database_errors", "Transactions of the job store that failed.", "code")

    def ended(self, method: str, code: str, seconds: float) -> None:
        """Counts a call that has ended."""
        self._requests.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)

    def denied(self, method: str) -> None:
        """Counts a call without a known token."""
        self._requests.labels(method, DENIED).inc()

    def claimed(self, kind: str, waited: float | None) -> None:
        """Counts a claim. waited: seconds, at the first one of a job."""
        self._claims.labels(kind).inc()
        if waited is not None:
            self._waited.labels(kind).observe(max(waited, 0.0))

    def attempted(self, kind: str, outcome: str, ran: float | None = None) -> None:
        """Counts an attempt that has ended. ran: seconds; None if there was no process."""
        self._attempts.labels(kind, outcome).inc()
        if ran is not None:
            self._ran.labels(kind).observe(ran)

    def lost(self) -> None:
        """Counts a job that was taken back."""
        self._lost.inc()

    def webhook(self, receiver: str, outcome: str) -> None:
        """Counts an attempt to tell of a job: "delivered", "failed" or "given_up"."""
        self._webhooks.labels(receiver, outcome).inc()

    def database_failed(self, code: str) -> None:
        """Counts a transaction that failed, by the code of its error."""
        self._database.labels(code).inc()

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"ouzel_worker_{name}", words, labels, registry=self.registry)

    def _histogram(self, name: str, words: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"ouzel_worker_{name}", words, labels, registry=self.registry, buckets=buckets)
