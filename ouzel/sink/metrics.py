"""The counts as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ouzel.sink import counts

MEDIA_TYPE = CONTENT_TYPE_LATEST


def metrics(status: Mapping[str, Any], process: CollectorRegistry) -> bytes:
    """The metrics of a status of `ouzel.sink.status`, and those of the process."""
    registry = CollectorRegistry()
    registry.register(_Told(status))
    return generate_latest(registry) + generate_latest(process)


class _Told(Collector):
    def __init__(self, status: Mapping[str, Any]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        yield _events(status)
        pending = _gauge("events_pending", "Events that wait, by their outcome so far.", "outcome")
        for outcome in counts.LIVE:
            pending.add_metric([outcome], status["outcomes"][outcome])
        yield pending
        held = status["held"]
        yield _gauge("held_bytes", "Bodies that are held for audits.", value=held["bytes"])
        words = "Since the event that has waited longest for its audit came."
        yield _gauge("queue_oldest_seconds", words, value=held["oldest_queued_s"] or 0.0)
        yield _gauge("worker_up", "Whether the worker takes audits.", value=int(status["worker"] == "ok"))
        for name, words in (
            ("unauthenticated", "Requests without the token."),
            ("unrecorded", "Events that were refused because the database could not be written."),
        ):
            yield CounterMetricFamily(f"ouzel_sink_{name}", words, value=status[name])
        alert = _gauge("alert", "Whether a detector has raised an alert.", "service", "detector")
        for service, each in status["services"].items():
            for detector in each["detectors"]:
                alert.add_metric([service, detector["name"]], int(detector["alert"]))
        yield alert


def _events(status: Mapping[str, Any]) -> Metric:
    """Those that have come to their end; services are those of the operator's file, or were once."""
    family = CounterMetricFamily(
        "ouzel_sink_events",
        "Events that were received, by what became of them.",
        labels=("service", "outcome", "reason"),
    )
    services = {name: each["counts"] for name, each in status["services"].items()} | status["others"]
    for service, outcomes in services.items():
        for outcome, reasons in outcomes.items():
            for reason, n in reasons.items():
                if outcome not in counts.LIVE:
                    family.add_metric([service, outcome, reason], n)
    return family


def _gauge(name: str, words: str, *labels: str, value: float | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ouzel_sink_{name}", words, value, labels or None)
