"""Alerts: durable rows, raised once per excursion and cleared by evidence or by the operator."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ouzel.audit.dataset.rows import ImageRow
from ouzel.databases.database import Connection
from ouzel.errors import FailedPrecondition, NotFound
from ouzel.sink.config import BACKGROUND, Service
from ouzel.sink.detector import Detector, State, step

_log = logging.getLogger(__name__)
RAISED, CLEARED = "org.ouzel.audit.alert.raised", "org.ouzel.audit.alert.cleared"
_WHAT = {
    "background": "predictions begin to rest on backgrounds",
    "disagreement": "the audited model does not say any more what the service says",
}


def outcome_of(detector: Detector, row: ImageRow) -> float | None:
    """What a detector sees of a result; None if nothing.

    Backgrounds: 1 if another background turns the prediction and its control does not, -1 the other way round, else 0;
    of pairs of which the region is known and the model says what was claimed, as in audits of data sets. Disagreement:
    1 if the model does not say what was claimed, else 0.
    """
    if row.verdict == "refused":
        return None
    if detector.name != BACKGROUND:
        return float(not row.agrees)
    if row.flips is None or not row.agrees:
        return None
    return float(row.flips.background) - float(row.flips.background_control)


def load(c: Connection, service: str, design: str, detector: str) -> State:
    """The state of a detector."""
    row = c.one("SELECT state FROM detectors WHERE service = ? AND design = ? AND name = ?", service, design, detector)
    return State() if row is None else State.from_dict(json.loads(row[0]))


def look(c: Connection, service: Service, design: str, row: ImageRow, *, notify: bool) -> list[str]:
    """Shows a result to the detectors of a service, in the transaction that stores it.

    Args:
        c: In a transaction.
        service: Whose result.
        design: SHA-256 of what was fixed beforehand.
        row: The result.
        notify: Whether alerts are to be sent.

    Returns:
        Lines for the log, to be written once the transaction is on the disk.
    """
    told = []
    for detector in service.detectors:
        outcome = outcome_of(detector, row)
        if outcome is None:
            continue
        before = load(c, service.name, design, detector.name)
        after, change = step(detector, before, outcome)
        _store(c, service.name, design, detector.name, after)
        if not change:
            continue
        share = (before.total + outcome) / (before.since + 1)
        seen = _Seen(service.name, design, detector, share, before.since + 1, after.samples)
        number, detail = _raised(c, seen) if change == "raised" else _cleared(c, seen)
        words = f"alert {number} of {service.name!r} {change}: {detail['reason']}"
        told.append(words)
        if notify:
            _notice(c, RAISED if change == "raised" else CLEARED, service.name, number, detail)
    return told


@dataclass(frozen=True)
class _Seen:
    """What a detector saw when it changed: the mean of the outcomes since it began, and of how many."""

    service: str
    design: str
    detector: Detector
    mean: float
    pairs: int
    sample: int

    def detail(self, reason: str) -> dict[str, Any]:
        return {
            "detector": self.detector.name,
            "reason": reason,
            "margin": self.detector.margin,
            "mean": self.mean,
            "pairs": self.pairs,
            "sample": self.sample,
            "design_sha256": self.design,
        }


def _raised(c: Connection, seen: _Seen) -> tuple[int, dict[str, Any]]:
    name, margin = seen.detector.name, seen.detector.margin
    figures = f"{seen.mean:+.2f} per pair over" if name == BACKGROUND else f"{seen.mean:.2f} of"
    detail = seen.detail(f"{_WHAT[name]}: {figures} {seen.pairs} pairs, and the margin is {margin:g}")
    c.run(
        "INSERT INTO alerts (service, design, detector, raised, sample, detail) VALUES (?, ?, ?, ?, ?, ?)",
        *(seen.service, seen.design, name, time.time(), seen.sample, json.dumps(detail)),
    )
    return int(c.all("SELECT last_insert_rowid()")[0][0]), detail


def _cleared(c: Connection, seen: _Seen) -> tuple[int, dict[str, Any]]:
    number = _open(c, seen.service, seen.design, seen.detector.name)
    c.run("UPDATE alerts SET cleared = ?, cleared_by = 'evidence' WHERE number = ?", time.time(), number)
    figures = f"{seen.mean:+.2f} per pair over the last {seen.pairs} pairs"
    return number, seen.detail(f"{figures} is evidence of a mean below {seen.detector.margin:g}")


def clear(c: Connection, number: int, who: str = "operator") -> str:
    """Clears an alert by hand; its detector starts anew.

    Returns:
        The service.

    Raises:
        NotFound: There is no such alert.
        FailedPrecondition: It was cleared before.
    """
    row = c.one("SELECT service, design, detector, cleared FROM alerts WHERE number = ?", number)
    if row is None:
        raise NotFound(f"alert: there is no alert {number}", field="alert")
    service, design, detector, cleared = row
    if cleared is not None:
        raise FailedPrecondition(f"alert: {number} was cleared before", field="alert")
    c.run("UPDATE alerts SET cleared = ?, cleared_by = ? WHERE number = ?", time.time(), who, number)
    _store(c, service, design, detector, load(c, service, design, detector).turned())
    return str(service)


def listed(c: Connection, *, open_only: bool = False, most: int = 100) -> list[dict[str, Any]]:
    """Alerts, the newest first, as values of JSON's types."""
    where = "WHERE cleared IS NULL" if open_only else ""
    rows = c.all(
        "SELECT number, service, detector, raised, sample, detail, cleared, cleared_by FROM alerts "
        f"{where} ORDER BY number DESC LIMIT ?",
        most,
    )
    return [
        {
            "number": number,
            "service": service,
            "detector": detector,
            "raised": _iso(raised),
            "sample": sample,
            **{key: value for key, value in json.loads(detail).items() if key in ("reason", "margin", "mean", "pairs")},
            "cleared": None if cleared is None else _iso(cleared),
            "cleared_by": who,
        }
        for number, service, detector, raised, sample, detail, cleared, who in rows
    ]


def end_of_design(c: Connection, service: str, design: str) -> None:
    """Clears alerts of designs that are not in force any more: nothing could clear them.

    Their detectors go, too, so that they start anew if such a design comes back.
    """
    c.run(
        "UPDATE alerts SET cleared = ?, cleared_by = 'another design' WHERE service = ? AND design != ? "
        "AND cleared IS NULL",
        *(time.time(), service, design),
    )
    c.run("DELETE FROM detectors WHERE service = ? AND design != ?", service, design)


def _open(c: Connection, service: str, design: str, detector: str) -> int:
    (row,) = c.all(
        "SELECT number FROM alerts WHERE service = ? AND design = ? AND detector = ? AND cleared IS NULL",
        *(service, design, detector),
    )
    return int(row[0])


def _store(c: Connection, service: str, design: str, detector: str, state: State) -> None:
    c.run(
        "INSERT OR REPLACE INTO detectors VALUES (?, ?, ?, ?)", service, design, detector, json.dumps(state.to_dict())
    )


def _notice(c: Connection, kind: str, service: str, number: int, detail: dict[str, Any]) -> None:
    now = time.time()
    event = {
        "specversion": "1.0",
        "id": f"{service}-{number}-{kind.rpartition('.')[2]}",
        "source": f"/ouzel/audit/sink/{service}",
        "type": kind,
        "time": _iso(now),
        "datacontenttype": "application/json",
        "data": {"alert": number, "service": service, **detail},
    }
    c.run("INSERT INTO notices (body, due, tries) VALUES (?, 0, 0)", json.dumps(event))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
