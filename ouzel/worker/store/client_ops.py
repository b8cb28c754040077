"""What callers ask of the store, as transactions: functions of an open connection."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence

from ouzel.errors import AlreadyExists, FailedPrecondition, NotFound
from ouzel.worker.store import job_table, usage
from ouzel.worker.store.database import Connection
from ouzel.worker.store.job import FINAL, LEASED, Job, NewJob, State, slots_of
from ouzel.worker.store.limits import Limits
from ouzel.worker.store.room import Room
from ouzel_protos.v1 import job_pb2 as pb


def create(c: Connection, owner: str, new: NewJob, limits: Limits, room: Room) -> Job:
    """Writes a new job, or finds the one that the same request made."""
    body = _body(new)
    if new.request_id:
        row = c.one("SELECT id, body FROM jobs WHERE owner = ? AND request_id = ?", owner, new.request_id)
        if row is not None:
            if bytes(row[1]) != body:
                message = f"request_id: {new.request_id!r:.140} was used for another job, {row[0]}"
                raise AlreadyExists(message, field="request_id")
            return job_table.find(c, owner, row[0])
    if new.refusal is not None:
        raise new.refusal
    usage.check(c, owner, limits)
    room.take(c, owner, limits)
    now = c.now()
    job = Job(
        id=f"job-{secrets.token_hex(10)}",
        owner=owner,
        kind=new.kind,
        spec=new.spec,
        state=State.QUEUED,
        attempt=0,
        progress=pb.Progress(),
        created=now,
        started=None,
        ended=None,
        updated=now,
        error=None,
        result=None,
        last_sequence=0,
        priority=new.priority,
        labels=dict(new.labels),
        request_id=new.request_id,
        timeout=new.timeout,
        slots=slots_of(new.spec),
    )
    return job_table.insert(c, job, body)


def events(c: Connection, owner: str, job: str, after: int, limit: int) -> list[pb.JobEvent]:
    """Reads events of the owner's job."""
    job_table.find(c, owner, job)
    return read_events(c, job, after, limit)


def read_events(c: Connection, job: str, after: int, limit: int) -> list[pb.JobEvent]:
    """Reads events of a job, in order."""
    sql = "SELECT body FROM events WHERE job = ? AND sequence > ? ORDER BY sequence LIMIT ?"
    return [pb.JobEvent.FromString(bytes(row[0])) for row in c.all(sql, job, after, limit)]


def cancel(c: Connection, owner: str, job: str) -> Job:
    """Cancels a job, or asks its process to stop."""
    record = job_table.find(c, owner, job, lock=True)
    if record.state in FINAL or record.state is State.CANCELLING:
        return record
    at_work = record.state in LEASED
    record = job_table.transition(c, record, State.CANCELLING, "asked for")
    return record if at_work else job_table.transition(c, record, State.CANCELLED, "cancelled before it ran")


def pause(c: Connection, owner: str, job: str) -> Job:
    """Pauses a job, or asks its process to stop."""
    record = job_table.find(c, owner, job, lock=True)
    if record.state is State.QUEUED:
        return job_table.transition(c, record, State.PAUSED, "paused before it ran")
    if record.state is State.PAUSED or (record.state is State.RUNNING and record.pause):
        return record
    if record.state is not State.RUNNING:
        raise _not_in(record, "paused", "QUEUED or RUNNING")
    return _wish_pause(c, record, True, "pause asked for: it stops after its next checkpoint")


def resume(c: Connection, owner: str, job: str) -> Job:
    """Queues a paused job, or takes back a pause."""
    record = job_table.find(c, owner, job, lock=True)
    if record.state is State.PAUSED:
        return job_table.transition(c, record, State.QUEUED, "resumed")
    if record.state in (State.RUNNING, State.PUBLISHING) and record.pause:
        return _wish_pause(c, record, False, "pause taken back")
    if record.state in (State.QUEUED, State.RUNNING):
        return record
    raise _not_in(record, "resumed", "PAUSED")


def retry(c: Connection, owner: str, job: str, limits: Limits, room: Room) -> Job:
    """Queues a job that failed or was cancelled."""
    record = job_table.find(c, owner, job, lock=True)
    if record.state not in (State.FAILED, State.CANCELLED):
        raise _not_in(record, "retried", "FAILED or CANCELLED")
    usage.check(c, owner, limits)
    room.take(c, owner, limits)
    cleared = {
        "error": None,
        "started": None,
        "ended": None,
        "ran": 0.0,
        "lost": 0,
        "memory_deaths": 0,
        "batch_scale": 1.0,
    }
    return job_table.transition(c, record, State.QUEUED, "retry asked for", **cleared)


def delete(c: Connection, owner: str, job: str) -> None:
    """Removes a job that has ended."""
    record = job_table.find(c, owner, job, lock=True)
    if record.state not in FINAL:
        raise _not_in(record, "deleted", "SUCCEEDED, FAILED or CANCELLED")
    c.run("DELETE FROM jobs WHERE id = ?", job)


def artifacts(c: Connection, owner: str, job: str) -> list[pb.Artifact]:
    """Reads the artifacts of a job."""
    job_table.find(c, owner, job)
    rows = c.all("SELECT name, media_type, size, sha256 FROM artifacts WHERE job = ? ORDER BY name", job)
    return [pb.Artifact(name=name, media_type=media, size=size, sha256=digest) for name, media, size, digest in rows]


def artifact(c: Connection, owner: str, job: str, name: str) -> pb.Artifact:
    """Reads one artifact of a job."""
    for each in artifacts(c, owner, job):
        if each.name == name:
            return each
    raise NotFound(f"name: {job} has no artifact {name!r:.100}", field="name")


def referenced(c: Connection, digests: Sequence[str]) -> set[str]:
    """Reads which digests jobs need."""
    needed: set[str] = set()
    for start in range(0, len(digests), 500):
        part = digests[start : start + 500]
        places = ", ".join("?" * len(part))
        for table, column in (("artifacts", "sha256"), ("jobs", "checkpoint")):
            needed.update(row[0] for row in c.all(f"SELECT {column} FROM {table} WHERE {column} IN ({places})", *part))
    return needed


def _wish_pause(c: Connection, job: Job, wish: bool, message: str) -> Job:
    c.run("UPDATE jobs SET pause = ? WHERE id = ?", int(wish), job.id)
    job_table.append(c, job, [pb.JobEvent(log=pb.Log(level=pb.Log.INFO, message=message))])
    return job_table.find(c, job.owner, job.id)


def _body(new: NewJob) -> bytes:
    """What must be the same for a request_id to be the same request."""
    rest = json.dumps([new.priority, sorted(new.labels.items()), new.timeout]).encode()
    asked = new.spec if new.asked is None else new.asked
    return hashlib.sha256(rest + b"\n" + asked.SerializeToString(deterministic=True)).digest()


def _not_in(job: Job, what: str, states: str) -> FailedPrecondition:
    return FailedPrecondition(f"{job.id} is {job.state.name}; only {states} can be {what}")
