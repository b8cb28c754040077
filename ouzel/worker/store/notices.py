"""Changes of state that somebody is to be told of, in the database of the jobs: written with the change, never without.

Of each job the oldest goes first, and the next one after it. Whoever takes one has it for a while; then another may.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ouzel.worker.store.database import Connection
from ouzel.worker.store.job import Job
from ouzel_protos.v1 import job_pb2 as pb


@dataclass(frozen=True)
class Notice:
    """A change of state that somebody is to be told of.

    Attributes:
        number: Of this notice.
        job: Its id.
        sequence: Of the event; with the id it names the message.
        owner: Of the job.
        kind: Of the job.
        url: Where it is told.
        event: A `JobEvent`, serialised.
        error: A `JobError`, serialised, if the job failed.
        labels: Of the job.
        tries: Attempts, with this one.
        age: Seconds since the change.
    """

    number: int
    job: str
    sequence: int
    owner: str
    kind: str
    url: str
    event: bytes
    error: bytes
    labels: Mapping[str, str]
    tries: int
    age: float


def write(c: Connection, job: Job, event: pb.JobEvent) -> None:
    """Notes a change of state, if the job has an address."""
    if not job.spec.notify:
        return
    now = c.now()
    columns = {
        "job": job.id,
        "sequence": event.sequence,
        "owner": job.owner,
        "kind": job.kind,
        "url": job.spec.notify,
        "event": event.SerializeToString(),
        "error": b"" if job.error is None else job.error.SerializeToString(),
        "labels": json.dumps(dict(job.labels), sort_keys=True),
        "tries": 0,
        "due": now,
        "created": now,
    }
    places = ", ".join("?" * len(columns))
    c.run(f"INSERT INTO notices ({', '.join(columns)}) VALUES ({places})", *columns.values())


def take(c: Connection, prefix: str, seconds: float) -> Notice | None:
    """Takes the notice that has been due longest; `NoticeStore.take_notice` says which."""
    now = c.now()
    row = c.one(
        "SELECT number, job, sequence, owner, kind, url, event, error, labels, tries, created FROM notices "
        "WHERE due <= ? AND substr(url, 1, ?) = ? AND number = (SELECT MIN(number) FROM notices AS others "
        f"WHERE others.job = notices.job) ORDER BY due LIMIT 1{c.for_update}",
        now,
        len(prefix),
        prefix,
    )
    if row is None:
        return None
    number, job, sequence, owner, kind, url, event, error, labels, tries, created = row
    c.run("UPDATE notices SET due = ?, tries = tries + 1 WHERE number = ?", now + seconds, number)
    age = max(0.0, now - created)
    return Notice(
        number, job, sequence, owner, kind, url, bytes(event), bytes(error), json.loads(labels), tries + 1, age
    )


def settle(c: Connection, notice: Notice, wait: float | None) -> None:
    """Ends an attempt, unless another worker has taken the notice since."""
    if wait is None:
        c.run("DELETE FROM notices WHERE number = ? AND tries = ?", notice.number, notice.tries)
    else:
        due = c.now() + wait
        c.run("UPDATE notices SET due = ? WHERE number = ? AND tries = ?", due, notice.number, notice.tries)
