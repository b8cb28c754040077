"""Figures of all jobs, as transactions that read."""

from __future__ import annotations

from ouzel.worker.store.database import Connection
from ouzel.worker.store.job import State
from ouzel.worker.store.protocol import Statistics


def statistics(c: Connection) -> Statistics:
    """Counts jobs, and looks for the one that has waited longest: `updated` is when it was queued."""
    rows = c.all("SELECT state, kind, COUNT(*) FROM jobs GROUP BY state, kind")
    oldest = c.one(f"SELECT MIN(updated) FROM jobs WHERE state = {int(State.QUEUED)}")
    waited = 0.0 if oldest is None or oldest[0] is None else max(c.now() - float(oldest[0]), 0.0)
    return Statistics({(State(state).name, kind): int(count) for state, kind, count in rows}, waited)


def artifact_bytes(c: Connection) -> int:
    """Adds up sizes, of each digest once."""
    row = c.one("SELECT SUM(size) FROM (SELECT DISTINCT sha256, size FROM artifacts) AS kept")
    return 0 if row is None or row[0] is None else int(row[0])


def state(c: Connection, job: str) -> State | None:
    """Reads the state of a job."""
    row = c.one("SELECT state FROM jobs WHERE id = ?", job)
    return None if row is None else State(row[0])
