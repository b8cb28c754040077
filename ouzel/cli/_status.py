"""The status of the services as text and as JSON."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from ouzel.serving import Status
from ouzel.serving.supervision.status import Part

_HEAD = ("part", "state", "process", "since", "address")


def as_text(status: Status | None) -> str:
    """A line per part; what there is to say of one below it."""
    if status is None:
        return "Nothing is running."
    rows = [_HEAD, *map(_row, status.parts)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    notes = ["", *(part.note for part in status.parts)]
    lines = []
    for row, note in zip(rows, notes, strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if note:
            lines.append(f"  {note}")
    return "\n".join(lines)


def _row(part: Part) -> tuple[str, ...]:
    pids = ", ".join(map(str, part.pids)) or "-"
    return part.name, str(part.state), pids, _when(part.since) or "-", part.address or "-"


def _when(since: float | None) -> str:
    return "" if since is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))


def as_values(status: Status | None) -> dict[str, Any]:
    """The same for programs. Times are seconds since the epoch."""
    if status is None:
        return {"running": False, "well": False, "parts": []}
    return {
        "running": True,
        "well": not status.troubles,
        "responding": status.responding,
        **(status.serving or {}),
        "models": [dataclasses.asdict(model) for model in status.models],
        "worker": status.worker,
        "gateway": status.gateway,
        "parts": [{**dataclasses.asdict(part), "state": str(part.state), "well": part.well} for part in status.parts],
    }
