"""Jobs that wait because no worker has as many slots as they need: their events say so."""

from __future__ import annotations

from ouzel.worker.store import job_table, roster
from ouzel.worker.store.database import Connection
from ouzel.worker.store.job import State
from ouzel.worker.store.roster import Roster
from ouzel_protos.v1 import job_pb2 as pb

_AT_ONCE = 100  # jobs that are told of in one transaction


def enter(c: Connection, worker: str, slots: int, lives: float) -> None:
    """Keeps a worker on the list for `lives` seconds, and tells jobs that need more slots than any worker has.

    They are told once for each number of slots, and only after they have waited for as long: a worker that is started
    again must have the time to come back.
    """
    known = roster.enter(c, worker, slots, lives)
    waiting = c.all(
        f"SELECT jobs.id FROM jobs LEFT JOIN waits ON waits.job = jobs.id WHERE jobs.state = {int(State.QUEUED)} "
        "AND jobs.slots > 1 AND jobs.slots > ? AND jobs.updated < ? AND (waits.most IS NULL OR waits.most <> ?) "
        "LIMIT ?",
        known.most,
        c.now() - lives,
        known.most,
        _AT_ONCE,
    )
    if waiting:
        c.lock("waits")  # so that of several workers one tells
    for (job,) in waiting:
        _tell(c, job, known)


def _tell(c: Connection, job: str, known: Roster) -> None:
    row = c.one(f"{job_table.SELECT} WHERE id = ?{c.for_update}", job)
    if row is None or (found := job_table.job_of(row)).state is not State.QUEUED:
        return
    if c.one("SELECT most FROM waits WHERE job = ? AND most = ?", job, known.most) is not None:
        return
    c.run(
        "INSERT INTO waits (job, most) VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET most = excluded.most",
        job,
        known.most,
    )
    message = f"it waits: it needs {found.slots} slots, and {known}"
    job_table.append(c, found, [pb.JobEvent(log=pb.Log(level=pb.Log.WARNING, message=message))])
    c.run("UPDATE jobs SET updated = ? WHERE id = ?", found.updated, job)  # of one that waits: since when
