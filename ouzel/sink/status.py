"""What the sink tells of itself: counts, queues, detectors, alerts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ouzel.databases.database import Connection
from ouzel.sink import alerts, counts
from ouzel.sink.config import BACKGROUND, Service, SinkConfig
from ouzel.sink.delays import CONFIDENCE, delay
from ouzel.sink.detector import CLEARING, Detector

_TRUE = (0.1, 0.2, 0.3, 0.5)  # beyond the margin: true rates of which the delay is stated
_REVERSE = 0.05  # share of pairs that only the control turns, in these statements


def status(
    c: Connection,
    config: SinkConfig,
    *,
    now: float,
    down: str,
    failures: Sequence[str],
    unauthenticated: int,
    unrecorded: int,
) -> dict[str, Any]:
    """The status, as values of JSON's types.

    Args:
        c: In a transaction that reads.
        config: The operator's file.
        now: Of the sink's clock.
        down: Why the worker takes no audits; "" if it does.
        failures: The last ones of this process.
        unauthenticated: Requests without the token, since the process started. They are not events.
        unrecorded: Events that were refused since then because the database could not be written.
    """
    read = counts.read(c)
    totals = counts.totals(read)
    pairs, stored, seen = c.all("SELECT pairs, bytes, seen FROM usage")[0]
    oldest = c.one("SELECT MIN(at) FROM held WHERE state = ?", counts.QUEUED)
    return {
        "received": totals[counts.RECEIVED],
        "outcomes": {each: totals[each] for each in counts.OUTCOMES},
        "adds_up": totals[counts.RECEIVED] == sum(totals[each] for each in counts.OUTCOMES),
        "unauthenticated": unauthenticated,
        "unrecorded": unrecorded,
        "held": {
            "pairs": pairs,
            "bytes": stored,
            "remembered": seen,
            "oldest_queued_s": None if oldest is None or oldest[0] is None else round(max(0.0, now - oldest[0]), 1),
        },
        "worker": down or "ok",
        "failures": list(failures),
        "services": {
            each.name: {
                "counts": read.get(each.name, {}),
                "design_sha256": each.sha256(),
                "rate": each.rate,
                "run_length": each.run_length,
                "detectors": [_detector(c, each, detector) for detector in each.detectors],
            }
            for each in config.services
        },
        "others": {name: of for name, of in read.items() if config.service(name) is None},
        "alerts": alerts.listed(c, open_only=True),
    }


def _detector(c: Connection, service: Service, detector: Detector) -> dict[str, Any]:
    state = alerts.load(c, service.name, service.sha256(), detector.name)
    evidence = 0.0 if math.isinf(state.evidence) else min(1e300, math.exp(min(690.0, state.evidence)))
    return {
        "name": detector.name,
        "alert": state.up,
        "samples": state.samples,
        "margin": detector.margin,
        "evidence": evidence,
        "needs": CLEARING if state.up else detector.threshold,
        "mean": state.total / state.since if state.since else None,
        "since": state.since,
        "delays": _delays(detector),
    }


def _delays(detector: Detector) -> list[dict[str, Any]]:
    """Samples until an alert, for some true rates."""
    made = []
    for beyond in _TRUE:
        falls = _REVERSE if detector.name == BACKGROUND else 0.0
        rises = detector.margin + beyond + falls
        if rises + falls > 1:
            continue
        bounds = delay(detector, rises, falls)
        told = {"true_mean": round(detector.margin + beyond, 4), "reverse": falls, "confidence": CONFIDENCE}
        if bounds is not None:
            made.append({**told, "mean_at_most": bounds.mean, "within": bounds.within})
    return made
