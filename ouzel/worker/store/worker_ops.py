"""What workers ask of the store, as transactions: functions of an open connection. All but `claim` are fenced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ouzel.errors import InvalidArgument
from ouzel.worker.store import job_table, measured, retry_policy, usage
from ouzel.worker.store.database import Connection
from ouzel.worker.store.job import LEASED, ControlFlags, Job, Lease, LeaseView, State
from ouzel.worker.store.limits import EachLimits
from ouzel.worker.store.protocol import LeaseLost
from ouzel.worker.store.retry_policy import Retries, Verdict
from ouzel_protos.v1 import job_pb2 as pb

_LEASED = ", ".join(str(int(each)) for each in sorted(LEASED))


# Of each owner with jobs that wait, the oldest of the highest priority, its slots and its kind. It goes from owner to
# owner in the index, so that a long queue costs no more than a short one. Jobs that take more slots than the worker has
# are left to others.
_FIRST = f"""
WITH RECURSIVE waiting (owner) AS (
    SELECT MIN(owner) FROM jobs WHERE state = {int(State.QUEUED)}
    UNION ALL
    SELECT (SELECT MIN(owner) FROM jobs WHERE state = {int(State.QUEUED)} AND jobs.owner > waiting.owner)
    FROM waiting WHERE waiting.owner IS NOT NULL
), highest (owner, priority) AS (
    SELECT owner, (SELECT MAX(priority) FROM jobs WHERE state = {int(State.QUEUED)} AND jobs.owner = waiting.owner
        AND slots <= ?)
    FROM waiting WHERE waiting.owner IS NOT NULL
), oldest (owner, priority, number) AS (
    SELECT owner, priority, (SELECT MIN(number) FROM jobs WHERE state = {int(State.QUEUED)}
        AND jobs.owner = highest.owner AND jobs.priority = highest.priority AND slots <= ?) FROM highest
)
SELECT oldest.owner, oldest.priority, oldest.number, jobs.slots, jobs.kind FROM oldest
JOIN jobs ON jobs.number = oldest.number
"""


@dataclass(frozen=True)
class Capacity:
    """What a worker has for another job.

    Attributes:
        free: Slots that no job has.
        slots: All of its slots.
        gpus: That a job gets with each slot.
        by_kind: Those that jobs of some kinds get instead.
    """

    free: int
    slots: int
    gpus: float
    by_kind: Mapping[str, float]


def claim(c: Connection, worker: str, limits: EachLimits, room: Capacity) -> tuple[Job, Lease] | None:
    """Takes the next job that may run; `WorkerStore.claim` says which."""
    c.lock("claim")  # so that the limit of running jobs is exact
    while (number := _next(c, limits, room)) is not None:
        row = c.one(f"{job_table.SELECT} WHERE number = ?{c.for_update}", number)
        if row is None or (job := job_table.job_of(row)).state is not State.QUEUED:
            continue  # cancelled a moment ago: look again
        changes = {"attempt": job.attempt + 1, "worker": worker, "started": job.started or c.now()}
        c.run("UPDATE jobs SET beat = beat + 1, handle = '' WHERE id = ?", job.id)
        job = job_table.transition(c, job, State.RUNNING, "started" if job.attempt == 0 else "started again", **changes)
        return job, Lease(job.id, job.attempt, worker)
    return None


def attach(c: Connection, lease: Lease, handle: str) -> None:
    """Notes the job's process."""
    job_table.require_lease(c, lease)
    c.run("UPDATE jobs SET handle = ? WHERE id = ?", handle, lease.job)


def heartbeat(c: Connection, lease: Lease, ran: float, gpus: float) -> ControlFlags:
    """Changes the beat, counts what was used, and reads what the owner wants."""
    job = job_table.require_lease(c, lease)
    c.run("UPDATE jobs SET beat = beat + 1 WHERE id = ?", lease.job)
    usage.count(c, job, ran, gpus)
    return ControlFlags(cancel=job.state is State.CANCELLING, pause=job.pause, last_sequence=job.last_sequence)


def settle(c: Connection, lease: Lease, ran: float, gpus: float) -> None:
    """Counts the last of an attempt, whose process may have ended its lease; later attempts count for themselves."""
    row = c.one(f"{job_table.SELECT} WHERE id = ?{c.for_update}", lease.job)
    if row is None:
        return
    job = job_table.job_of(row)
    if job.attempt != lease.attempt or job.started is None:  # claimed by others, or queued again by its owner
        return
    usage.count(c, job, ran, gpus)
    if job.state is State.SUCCEEDED:
        measured.note(c, job, max(ran, job.ran), gpus)


def emit(c: Connection, lease: Lease, events: Sequence[pb.JobEvent]) -> None:
    """Writes events of a job."""
    job_table.append(c, job_table.require_lease(c, lease), events)


def checkpoint(c: Connection, lease: Lease, digest: str, events: Sequence[pb.JobEvent] = ()) -> None:
    """Notes the newest checkpoint, with events of what it says; lost processes are counted from it on."""
    job = job_table.require_lease(c, lease)
    c.run("UPDATE jobs SET checkpoint = ?, lost = 0 WHERE id = ?", digest, lease.job)
    if events:
        job_table.append(c, job, events)


def publishing(c: Connection, lease: Lease) -> None:
    """Makes a running job PUBLISHING."""
    job = job_table.require_lease(c, lease)
    if job.state is State.RUNNING:
        job_table.transition(c, job, State.PUBLISHING, "done; results are being stored")


def succeed(c: Connection, lease: Lease, result: pb.JobResult) -> Job:
    """Writes result and artifacts, once."""
    row = c.one(f"{job_table.SELECT} WHERE id = ?{c.for_update}", lease.job)
    if row is not None and (done := job_table.job_of(row)).state is State.SUCCEEDED and done.attempt == lease.attempt:
        return done
    job = job_table.require_lease(c, lease)
    if len({each.name for each in result.artifacts}) < len(result.artifacts):
        raise InvalidArgument("artifacts: two of them have the same name", field="artifacts")
    for each in result.artifacts:
        c.run(
            "INSERT INTO artifacts (job, name, media_type, size, sha256) VALUES (?, ?, ?, ?, ?)",
            job.id,
            each.name,
            each.media_type,
            each.size,
            each.sha256,
        )
    if job.state is State.RUNNING:
        job = job_table.transition(c, job, State.PUBLISHING, "done")
    # The checkpoint is of no more use.
    return job_table.transition(c, job, State.SUCCEEDED, "published", result=result, checkpoint="")


def abandon(c: Connection, lease: Lease, reason: str) -> Job:
    """Ends the lease of a process that has stopped as asked."""
    job = job_table.require_lease(c, lease)
    return _follow(c, job, retry_policy.after_stop(job, reason))


def fail(c: Connection, lease: Lease, error: pb.JobError, *, memory: bool, retries: Retries) -> Job:
    """Ends the lease of a process that failed."""
    job = job_table.require_lease(c, lease)
    return _follow(c, job, retry_policy.after_failure(job, error, memory=memory, retries=retries))


def leases(c: Connection) -> list[LeaseView]:
    """Reads all leases."""
    rows = c.all(f"SELECT id, attempt, worker, beat, handle FROM jobs WHERE state IN ({_LEASED})")
    return [LeaseView(Lease(job, attempt, worker), beat, handle) for job, attempt, worker, beat, handle in rows]


def reclaim(c: Connection, view: LeaseView, reason: str, retries: Retries) -> Job:
    """Ends the lease of a lost worker."""
    job = job_table.require_lease(c, view.lease)
    row = c.one("SELECT beat FROM jobs WHERE id = ?", job.id)
    if row is None or row[0] != view.beat:
        raise LeaseLost(f"{job.id}: its lease is alive")
    return _follow(
        c, job, retry_policy.after_failure(job, retry_policy.infrastructure(reason), memory=False, retries=retries)
    )


def _follow(c: Connection, job: Job, verdict: Verdict) -> Job:
    return job_table.transition(c, job, verdict.state, verdict.reason, **verdict.changes)


def _next(c: Connection, limits: EachLimits, room: Capacity) -> int | None:
    """Number of the job whose turn it is; None also if it must wait for slots, which no later job takes then."""
    running = dict(c.all(f"SELECT owner, SUM(slots) FROM jobs WHERE state IN ({_LEASED}) GROUP BY owner"))
    waiting = c.all(_FIRST, room.slots, room.slots)
    limited = {owner: limits.of(owner) for owner, *_ in waiting}
    used = usage.today(c) if any(each.daily for each in limited.values()) else {}
    turns = [
        (-priority, running.get(owner, 0), number, needed)
        for owner, priority, number, needed, kind in waiting
        if running.get(owner, 0) + needed <= limited[owner].running
        and limited[owner].spent(*used.get(owner, (0.0, 0.0)), room.by_kind.get(kind, room.gpus)) is None
    ]
    *_, number, needed = min(turns, default=(None, 0))
    return number if needed <= room.free else None
