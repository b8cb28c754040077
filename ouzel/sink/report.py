"""Statistics of what was audited, by day and class: those of an audit of a data set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ouzel.audit.dataset.groups import groups
from ouzel.audit.dataset.rows import ImageRow
from ouzel.checks import within
from ouzel.databases.database import Connection
from ouzel.errors import TooLarge
from ouzel.pages import render
from ouzel.sink import alerts
from ouzel.sink.config import Service, SinkConfig
from ouzel.sink.sampling import RATE

FORM = "ouzel.audit.sink/1"
MOST_DAYS = 366
MOST_PAIRS = 20_000
_LIMITS = (
    "The statistics are of the audited pairs. They say nothing of pairs that were dropped, failed or came by half.",
    "Pairs that a condition chose are apart: they are no sample of the stream.",
    "Intervals and p-values hold for one look at one report. The alerts hold however often one looks.",
    "In a test are pairs of which the region is known and the model says what the service said.",
)
_NOMINATED = "Regions that a map marks stand in where nobody says where the object is: weaker evidence."


@dataclass(frozen=True)
class _Kept:
    day: str
    why: str
    row: ImageRow
    source: str


def report(c: Connection, config: SinkConfig, name: str | None = None, days: int = 30) -> dict[str, Any]:
    """The report, as values of JSON's types.

    Args:
        c: In a transaction that reads.
        config: The operator's file.
        name: A service; None for all.
        days: The last days that have results, 1 to 366.

    Raises:
        InvalidArgument: `days` is out of range.
        TooLarge: The days have more than 20,000 results.
    """
    within("days", days, 1, MOST_DAYS)
    services = [each for each in config.services if name in (None, each.name)]
    return {
        "form": FORM,
        "services": {each.name: _service(c, each, days) for each in services},
        "alerts": [each for each in alerts.listed(c) if name in (None, each["service"])],
        "limits": list(_LIMITS),
    }


def page(values: Mapping[str, Any]) -> str:
    """The report as HTML.

    Args:
        values: Of `report`.
    """
    services = {
        name: {
            **each,
            "by_day": [(day, of["overall"]) for day, of in reversed(each["days"].items())],
            "by_class": [(of["label"], of) for of in each["random"]["classes"]],
            "by_condition": [(why, of["overall"]) for why, of in each["conditions"].items()],
        }
        for name, each in values["services"].items()
    }
    return render("audit_sink.html", title="Audit of a stream", **{**values, "services": services})


def _service(c: Connection, service: Service, days: int) -> dict[str, Any]:
    sha256 = service.sha256()
    kept = _rows(c, service.name, sha256, days)
    chance = [each for each in kept if each.why == RATE]
    by_day: dict[str, list[_Kept]] = {}
    for each in chance:
        by_day.setdefault(each.day, []).append(each)
    reasons = sorted({each.why for each in kept} - {RATE})
    since = c.one("SELECT since FROM designs WHERE service = ? AND sha256 = ?", service.name, sha256)
    return {
        "design": service.document(),
        "design_sha256": sha256,
        "design_since": None if since is None else since[0],
        "random": _figures(chance, service),
        "days": {day: _figures(rows, service) for day, rows in sorted(by_day.items())},
        "conditions": {why: _figures([each for each in kept if each.why == why], service) for why in reasons},
        "limits": [_NOMINATED] if service.nominated else [],
    }


def _figures(kept: Sequence[_Kept], service: Service) -> dict[str, Any]:
    overall, classes = groups([each.row for each in kept], service.design, frozenset(service.design.scenes))
    sources = Counter(each.source for each in kept if each.source)
    return {
        "overall": _plain(overall),
        "classes": [_plain(each) for each in classes],
        "sources": [{**json.loads(source), "pairs": n} for source, n in sources.most_common(20)],
    }


def _plain(group: Any) -> Mapping[str, Any]:
    """Of a group: nobody knows what the images are, and no other images were drawn."""
    left_out = ("accuracy", "claim_accuracy", "mixed_same", "mixed_rand", "background_gap")
    return {key: value for key, value in group.to_dict().items() if key not in left_out}


def _rows(c: Connection, service: str, design: str, days: int) -> list[_Kept]:
    dates = c.all(
        "SELECT DISTINCT day FROM results WHERE service = ? AND design = ? ORDER BY day DESC LIMIT ?",
        *(service, design, days),
    )
    if not dates:
        return []
    rows = c.all(
        "SELECT day, why, row, source FROM results WHERE service = ? AND design = ? AND day >= ? "
        "ORDER BY number LIMIT ?",
        *(service, design, dates[-1][0], MOST_PAIRS + 1),
    )
    if len(rows) > MOST_PAIRS:
        raise TooLarge(f"days: {days} days have more than {MOST_PAIRS} results; ask for fewer days", field="days")
    return [_Kept(day, why, ImageRow.from_dict(json.loads(row)), source) for day, why, row, source in rows]
