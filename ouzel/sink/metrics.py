"""The counts as text that Prometheus reads.

References:
    Prometheus, "Exposition formats": https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ouzel.sink import counts

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics(status: Mapping[str, Any]) -> str:
    """The metrics of a status of `ouzel.sink.status`."""
    return "".join(f"{line}\n" for line in _lines(status))


def _lines(status: Mapping[str, Any]) -> Iterator[str]:
    services = {name: each["counts"] for name, each in status["services"].items()} | status["others"]
    yield "# TYPE ouzel_sink_events_total counter"
    for service, outcomes in services.items():
        for outcome, reasons in outcomes.items():
            for reason, n in reasons.items():
                if outcome not in counts.LIVE:
                    yield _sample("ouzel_sink_events_total", n, service=service, outcome=outcome, reason=reason)
    yield "# TYPE ouzel_sink_events gauge"
    for outcome in counts.LIVE:
        yield _sample("ouzel_sink_events", status["outcomes"][outcome], outcome=outcome)
    yield "# TYPE ouzel_sink_held_bytes gauge"
    yield _sample("ouzel_sink_held_bytes", status["held"]["bytes"])
    yield "# TYPE ouzel_sink_worker_up gauge"
    yield _sample("ouzel_sink_worker_up", int(status["worker"] == "ok"))
    yield "# TYPE ouzel_sink_alert gauge"
    for service, each in status["services"].items():
        for detector in each["detectors"]:
            yield _sample("ouzel_sink_alert", int(detector["alert"]), service=service, detector=detector["name"])


def _sample(name: str, value: float, **labels: str) -> str:
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{told}}} {value}" if told else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
