"""Rows of the jobs table as `Job`s, and the two ways in which they change: a transition, or more events."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ouzel.errors import NotFound
from ouzel.worker.store import notices, usage
from ouzel.worker.store.database import Connection, wrote
from ouzel.worker.store.job import FINAL, LEASED, TRANSITIONS, Job, Lease, State, timestamp
from ouzel.worker.store.protocol import LeaseLost
from ouzel_protos.v1 import job_pb2 as pb

# The order of Job's fields.
_COLUMNS = (
    "id, owner, kind, spec, state, attempt, progress, created, started, ended, updated, error, result, last_sequence, "
    "priority, labels, request_id, timeout, ran, lost, memory_deaths, batch_scale, checkpoint, pause, worker, slots"
)
_ID = re.compile(r"job-[0-9a-f]{1,64}")
SELECT = f"SELECT {_COLUMNS} FROM jobs"


def job_of(row: tuple[Any, ...]) -> Job:
    """A row as a Job."""
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    values |= {
        "spec": pb.JobSpec.FromString(values["spec"]),
        "state": State(values["state"]),
        "progress": pb.Progress.FromString(values["progress"]),
        "error": None if values["error"] is None else pb.JobError.FromString(values["error"]),
        "result": None if values["result"] is None else pb.JobResult.FromString(values["result"]),
        "labels": json.loads(values["labels"]),
        "request_id": values["request_id"] or "",
        "pause": bool(values["pause"]),
    }
    return Job(**values)


def find(c: Connection, owner: str, job: str, *, lock: bool = False) -> Job:
    """Reads the owner's job. One of another owner does not exist for the caller."""
    row = None
    if _ID.fullmatch(job):  # PostgreSQL takes no text with a 0 in it
        row = c.one(f"{SELECT} WHERE id = ? AND owner = ?{c.for_update if lock else ''}", job, owner)
    if row is None:
        raise NotFound(f"id: no job {job!r:.60}", field="id")
    return job_of(row)


def require_lease(c: Connection, lease: Lease) -> Job:
    """Reads and locks the lease's job. Raises LeaseLost: this is the fence."""
    row = c.one(f"{SELECT} WHERE id = ?{c.for_update}", lease.job)
    if row is None:
        raise LeaseLost(f"{lease.job} is gone")
    job = job_of(row)
    if job.attempt != lease.attempt or job.worker != lease.worker or job.state not in LEASED:
        raise LeaseLost(f"{lease.job}: attempt {lease.attempt} of {lease.worker} is over")
    return job


def insert(c: Connection, job: Job, body: bytes) -> Job:
    """Writes a new job with its first event. Nobody can know its id yet, so nobody is told.

    Args:
        c: The transaction.
        job: In its first state, without events.
        body: What makes a request the same as an earlier one.

    Returns:
        The job as it is then.
    """
    change = pb.StateChange(previous=int(State.UNSPECIFIED), state=int(job.state), reason="accepted")  # type: ignore[arg-type]
    event = pb.JobEvent(sequence=1, time=timestamp(job.created), state_change=change)
    job = replace(job, last_sequence=1)
    columns = {
        "id": job.id,
        "owner": job.owner,
        "kind": job.kind,
        "spec": job.spec.SerializeToString(deterministic=True),
        "state": int(job.state),
        "attempt": job.attempt,
        "progress": b"",
        "created": job.created,
        "updated": job.updated,
        "last_sequence": job.last_sequence,
        "priority": job.priority,
        "labels": json.dumps(dict(job.labels), sort_keys=True),
        "request_id": job.request_id or None,
        "body": body,
        "timeout": job.timeout,
        "ran": job.ran,
        "lost": job.lost,
        "memory_deaths": job.memory_deaths,
        "batch_scale": job.batch_scale,
        "checkpoint": job.checkpoint,
        "pause": int(job.pause),
        "worker": job.worker,
        "beat": 0,
        "handle": "",
        "slots": job.slots,
    }
    places = ", ".join("?" * len(columns))
    c.run(f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({places})", *columns.values())
    for name, value in job.labels.items():
        c.run("INSERT INTO labels (job, name, value) VALUES (?, ?, ?)", job.id, name, value)
    c.run("INSERT INTO events (job, sequence, body) VALUES (?, ?, ?)", job.id, 1, event.SerializeToString())
    notices.write(c, job, event)
    return job


def transition(c: Connection, job: Job, state: State, reason: str, **changes: Any) -> Job:
    """Changes the state of a job, and writes the event.

    Args:
        c: The transaction.
        job: As it is now.
        state: The new state.
        reason: For the event.
        changes: Columns to set besides, as fields of Job.

    Returns:
        The job as it is then.
    """
    if state not in TRANSITIONS[job.state]:
        raise AssertionError(f"no transition from {job.state.name} to {state.name}")
    now = c.now()
    if state in FINAL:
        changes["ended"] = now
    if state not in LEASED:
        changes |= {"worker": "", "pause": False}
    change = pb.StateChange(previous=int(job.state), state=int(state), reason=reason)  # type: ignore[arg-type]
    job = replace(job, state=state, **changes)
    columns = {"state": int(state), **{name: _stored(value) for name, value in changes.items()}}
    assignments = ", ".join(f"{name} = ?" for name in columns)
    c.run(f"UPDATE jobs SET {assignments} WHERE id = ?", *columns.values(), job.id)
    if state in FINAL:
        usage.ended(c, job)
    return append(c, job, [pb.JobEvent(state_change=change)])


def append(c: Connection, job: Job, events: Sequence[pb.JobEvent]) -> Job:
    """Numbers events and writes them; the newest progress among them becomes the job's."""
    now, written = c.now(), []
    for sequence, event in enumerate(events, job.last_sequence + 1):
        numbered = pb.JobEvent()
        numbered.CopyFrom(event)
        numbered.sequence, numbered.attempt = sequence, job.attempt
        numbered.time.CopyFrom(timestamp(now))
        c.run(
            "INSERT INTO events (job, sequence, body) VALUES (?, ?, ?)", job.id, sequence, numbered.SerializeToString()
        )
        written.append(numbered)
        if numbered.HasField("state_change"):
            notices.write(c, job, numbered)
    progress = next((each.progress for each in reversed(written) if each.WhichOneof("kind") == "progress"), None)
    job = replace(job, last_sequence=job.last_sequence + len(written), updated=now, progress=progress or job.progress)
    c.run(
        "UPDATE jobs SET last_sequence = ?, updated = ?, progress = ? WHERE id = ?",
        job.last_sequence,
        now,
        job.progress.SerializeToString(),
        job.id,
    )
    wrote(c, job.id, written)
    return job


def _stored(value: Any) -> Any:
    if isinstance(value, (pb.JobError, pb.JobResult, pb.Progress)):
        return value.SerializeToString()
    return int(value) if isinstance(value, bool) else value
