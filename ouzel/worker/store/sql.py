"""The store over a database: each method is one transaction of `client_ops` or `worker_ops`."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from ouzel.worker.store import (
    client_ops,
    figures,
    job_table,
    measured,
    notices,
    pagination,
    reservations,
    roster,
    stops,
    usage,
    waits,
    worker_ops,
)
from ouzel.worker.store.database import Database
from ouzel.worker.store.job import (
    ControlFlags,
    Job,
    Lease,
    LeaseView,
    NewJob,
    Page,
    Query,
    Sign,
    State,
)
from ouzel.worker.store.limits import EachLimits, Limits
from ouzel.worker.store.notices import Notice
from ouzel.worker.store.protocol import Listener, Statistics
from ouzel.worker.store.retry_policy import Retries
from ouzel.worker.store.room import Room
from ouzel.worker.store.roster import Roster
from ouzel.worker.store.subscriptions import Listeners
from ouzel.worker.store.usage import Today, Used
from ouzel_protos.v1 import job_pb2 as pb

_LIMITS = Limits()
_NO_KIND: Mapping[str, float] = MappingProxyType({})


class SqlStore:
    """Implements `protocol.Store`, which says what each method does.

    Args:
        database: Runs the transactions.
        retries: How often failed jobs are tried again.
    """

    def __init__(self, database: Database, retries: Retries | None = None) -> None:
        self._db = database
        self.retries = retries or Retries()
        self._listeners, self._room = Listeners(), Room()
        try:
            database.write(pagination.create_key)
            database.on_commit(self._listeners.tell, self._listeners.wanted)
        except BaseException:
            database.close()
            raise

    # For callers

    def create(self, owner: str, new: NewJob, *, limits: Limits = _LIMITS) -> Job:
        return self._db.write(lambda c: client_ops.create(c, owner, new, limits, self._room))

    def get(self, owner: str, job: str) -> Job:
        return self._db.read(lambda c: job_table.find(c, owner, job))

    def list(self, owner: str, query: Query) -> Page:
        return self._db.read(lambda c: pagination.list_jobs(c, owner, query))

    def events(self, owner: str, job: str, after: int = 0, limit: int = 500) -> builtins.list[pb.JobEvent]:
        return self._db.read(lambda c: client_ops.events(c, owner, job, after, limit))

    def cancel(self, owner: str, job: str) -> Job:
        return self._db.write(lambda c: client_ops.cancel(c, owner, job))

    def pause(self, owner: str, job: str) -> Job:
        return self._db.write(lambda c: client_ops.pause(c, owner, job))

    def resume(self, owner: str, job: str) -> Job:
        return self._db.write(lambda c: client_ops.resume(c, owner, job))

    def retry(self, owner: str, job: str, *, limits: Limits = _LIMITS) -> Job:
        return self._db.write(lambda c: client_ops.retry(c, owner, job, limits, self._room))

    def delete(self, owner: str, job: str) -> None:
        self._db.write(lambda c: client_ops.delete(c, owner, job))

    def artifacts(self, owner: str, job: str) -> builtins.list[pb.Artifact]:
        return self._db.read(lambda c: client_ops.artifacts(c, owner, job))

    def artifact(self, owner: str, job: str, name: str) -> pb.Artifact:
        return self._db.read(lambda c: client_ops.artifact(c, owner, job, name))

    def listen(self, job: str, listener: Listener, after: int = 0) -> Callable[[], None]:
        return self._listeners.add(job, listener, after)

    # For workers

    def claim(
        self,
        worker: str,
        *,
        limits: EachLimits = _LIMITS,
        gpus: float = 0,
        gpus_by_kind: Mapping[str, float] = _NO_KIND,
        free: int = 1,
        slots: int = 1,
    ) -> tuple[Job, Lease] | None:
        room = worker_ops.Capacity(free, slots, gpus, gpus_by_kind)
        return self._db.write(lambda c: worker_ops.claim(c, worker, limits, room))

    def require_lease(self, lease: Lease) -> Job:
        return self._db.write(lambda c: job_table.require_lease(c, lease))

    def attach(self, lease: Lease, handle: str) -> None:
        self._db.write(lambda c: worker_ops.attach(c, lease, handle))

    def heartbeat(self, lease: Lease, ran: float = 0.0, gpus: float = 0) -> ControlFlags:
        return self._db.write(lambda c: worker_ops.heartbeat(c, lease, ran, gpus))

    def settle(self, lease: Lease, ran: float, gpus: float = 0) -> None:
        self._db.write(lambda c: worker_ops.settle(c, lease, ran, gpus))

    def ask_stop(self, job: str, attempt: int, *, kill: bool = False) -> None:
        self._db.write(lambda c: stops.ask(c, job, attempt, kill))

    def sign(self, lease: Lease) -> Sign:
        return self._db.write(lambda c: stops.look(c, lease))

    def emit(self, lease: Lease, events: Iterable[pb.JobEvent]) -> None:
        written = builtins.list(events)
        self._db.write(lambda c: worker_ops.emit(c, lease, written))

    def checkpoint(self, lease: Lease, digest: str, events: Iterable[pb.JobEvent] = ()) -> None:
        written = builtins.list(events)
        self._db.write(lambda c: worker_ops.checkpoint(c, lease, digest, written))

    def publishing(self, lease: Lease) -> None:
        self._db.write(lambda c: worker_ops.publishing(c, lease))

    def succeed(self, lease: Lease, result: pb.JobResult) -> Job:
        return self._db.write(lambda c: worker_ops.succeed(c, lease, result))

    def abandon(self, lease: Lease, reason: str) -> Job:
        return self._db.write(lambda c: worker_ops.abandon(c, lease, reason))

    def fail(self, lease: Lease, error: pb.JobError, *, memory: bool = False) -> Job:
        return self._db.write(lambda c: worker_ops.fail(c, lease, error, memory=memory, retries=self.retries))

    def leases(self) -> builtins.list[LeaseView]:
        return self._db.read(worker_ops.leases)

    def reclaim(self, view: LeaseView, reason: str) -> Job:
        return self._db.write(lambda c: worker_ops.reclaim(c, view, reason, self.retries))

    def enter(self, worker: str, slots: int, lives: float) -> None:
        self._db.write(lambda c: waits.enter(c, worker, slots, lives))

    def leave(self, worker: str) -> None:
        self._db.write(lambda c: roster.leave(c, worker))

    def roster(self) -> Roster:
        return self._db.read(roster.read)

    def state(self, job: str) -> State | None:
        return self._db.read(lambda c: figures.state(c, job))

    def statistics(self) -> Statistics:
        return self._db.read(figures.statistics)

    def artifact_bytes(self) -> int:
        return self._db.read(figures.artifact_bytes)

    def referenced(self, digests: Sequence[str]) -> set[str]:
        return self._db.read(lambda c: client_ops.referenced(c, digests))

    def take_notice(self, prefix: str, seconds: float) -> Notice | None:
        return self._db.write(lambda c: notices.take(c, prefix, seconds))

    def settle_notice(self, notice: Notice, wait: float | None) -> None:
        self._db.write(lambda c: notices.settle(c, notice, wait))

    # For quotas and quotes

    def usage(self, owner: str | None, days: int) -> Sequence[Used]:
        return self._db.read(lambda c: usage.read(c, owner, days))

    def today(self) -> Mapping[str, tuple[float, float]]:
        return self._db.read(usage.today)

    def today_of(self, owner: str) -> Today:
        return self._db.read(lambda c: usage.today_of(c, owner))

    def artifact_bytes_by_owner(self) -> Mapping[str, int]:
        return self._db.read(usage.artifact_bytes)

    def artifact_bytes_of(self, owner: str) -> int:
        return self._db.read(lambda c: usage.artifact_bytes_of(c, owner))

    def measured(self, kind: str, scale: str, gpus: float) -> Sequence[tuple[float, float]]:
        return self._db.read(lambda c: measured.read(c, kind, scale, gpus))

    def clock(self) -> float:
        return self._db.read(lambda c: c.now())

    def reserve(self, owner: str, name: str, size: int, *, stored: int, seen: float, limit: int) -> int | None:
        return self._db.write(
            lambda c: reservations.reserve(c, owner, name, size, stored=stored, seen=seen, limit=limit)
        )

    def renew(self, owner: str, name: str, size: int) -> None:
        self._db.write(lambda c: reservations.renew(c, owner, name, size))

    def reservation_done(self, name: str) -> None:
        self._db.write(lambda c: reservations.done(c, name))

    def release(self, name: str) -> None:
        self._db.write(lambda c: reservations.release(c, name))

    def reserved(self, owner: str) -> int:
        return self._db.read(lambda c: reservations.held(c, owner))

    def check(self) -> None:
        self._db.check()

    def close(self) -> None:
        self._db.close()
