"""How long jobs took for how much work, from which later ones are quoted. It outlives the jobs, and names no owner."""

from __future__ import annotations

from ouzel.worker.store.database import Connection
from ouzel.worker.store.job import Job

_KEPT = 100  # of each scale, the newest


def note(c: Connection, job: Job, ran: float, gpus: float) -> None:
    """Notes what a job took, once.

    Only of one that succeeded at its first attempt: others have done some of the work twice, or before an earlier end.
    """
    spec = job.spec
    if spec.work_units <= 0 or not spec.scale or job.attempt != 1 or ran <= 0:
        return
    where = (job.kind, spec.scale, gpus)
    c.run(
        "INSERT INTO measured (job, kind, scale, gpus, units, seconds) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (job) DO NOTHING",
        job.id,
        *where,
        spec.work_units,
        ran,
    )
    newest = "SELECT number FROM measured WHERE kind = ? AND scale = ? AND gpus = ? ORDER BY number DESC"
    row = c.one(f"{newest} LIMIT 1 OFFSET {_KEPT}", *where)
    if row is not None:
        c.run("DELETE FROM measured WHERE kind = ? AND scale = ? AND gpus = ? AND number <= ?", *where, row[0])


def read(c: Connection, kind: str, scale: str, gpus: float) -> list[tuple[float, float]]:
    """Units of work and seconds of the newest jobs of a scale."""
    sql = "SELECT units, seconds FROM measured WHERE kind = ? AND scale = ? AND gpus = ?"
    return [(float(units), float(seconds)) for units, seconds in c.all(sql, kind, scale, gpus)]
