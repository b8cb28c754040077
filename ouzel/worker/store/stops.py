"""Words to processes that no signal of this machine reaches: that they are to stop.

A row of the table `stops` belongs to one attempt of one job, so that it never meets the next one.
"""

from __future__ import annotations

from ouzel.worker.store import job_table
from ouzel.worker.store.database import Connection
from ouzel.worker.store.job import Lease, Sign, State


def ask(c: Connection, job: str, attempt: int, kill: bool) -> None:
    """Leaves word for the process of an attempt. A job that is gone needs none."""
    c.run(
        "INSERT INTO stops (job, attempt, kill) SELECT id, ?, ? FROM jobs WHERE id = ? "
        "ON CONFLICT (job, attempt) DO UPDATE SET kill = CASE WHEN stops.kill = 1 THEN 1 ELSE excluded.kill END",
        attempt,
        int(kill),
        job,
    )


def look(c: Connection, lease: Lease) -> Sign:
    """Reads the word for the process that works with this lease. Raises LeaseLost."""
    job = job_table.require_lease(c, lease)
    row = c.one("SELECT beat FROM jobs WHERE id = ?", lease.job)
    word = c.one("SELECT kill FROM stops WHERE job = ? AND attempt = ?", lease.job, lease.attempt)
    wanted = job.state is State.CANCELLING or job.pause or word is not None
    return Sign(beat=row[0] if row else 0, stop=wanted, kill=word is not None and bool(word[0]))
