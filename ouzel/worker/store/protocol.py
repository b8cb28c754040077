"""The store of jobs: the one source of truth, behind one Protocol for SQLite and PostgreSQL.

All methods block for milliseconds, are safe to call from any thread, and have committed durably when they return.
Methods for callers take the `owner` who calls: a job of somebody else is NotFound. Methods for workers take a `Lease`
and raise `LeaseLost` if the job is no longer theirs.

Errors: InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, ResourceExhausted (a limit, or the disk is full),
Unavailable (the database does not answer; what was asked may or may not have happened), all of ouzel.errors.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ouzel.worker.store.job import ControlFlags, Job, Lease, LeaseView, Limits, NewJob, Page, Query
from ouzel.worker.store.retry_policy import Retries
from ouzel_protos.v1 import job_pb2 as pb

Listener = Callable[[Sequence[pb.JobEvent]], None]


class LeaseLost(Exception):
    """The job has been given to somebody else, or has ended, or was deleted: stop working on it."""


class ClientStore(Protocol):
    """What the service needs."""

    def create(self, owner: str, new: NewJob, *, limits: Limits = ...) -> Job:
        """Commit a job that has been validated. The same request_id and body give the same job again.

        Raises AlreadyExists (the request_id is taken by another body) or ResourceExhausted (limit of `owner`).
        """

    def get(self, owner: str, job: str) -> Job: ...

    def list(self, owner: str, query: Query) -> Page:
        """Raises InvalidArgument for a page token that was not given out for this owner and query."""

    def events(self, owner: str, job: str, after: int = 0, limit: int = 500) -> builtins.list[pb.JobEvent]:
        """The events with sequence > `after`, in order, without gap."""

    def cancel(self, owner: str, job: str) -> Job:
        """CANCELLED at once if no process is at work, else CANCELLING. Jobs that have ended stay as they are."""

    def pause(self, owner: str, job: str) -> Job:
        """PAUSED at once if queued; a running one gets there after its checkpoint. Raises FailedPrecondition."""

    def resume(self, owner: str, job: str) -> Job:
        """QUEUED if paused; takes back a pause that has not happened yet. Raises FailedPrecondition."""

    def retry(self, owner: str, job: str, *, limits: Limits = ...) -> Job:
        """Queue a FAILED or CANCELLED job again. Raises FailedPrecondition or ResourceExhausted."""

    def delete(self, owner: str, job: str) -> None:
        """Raises FailedPrecondition unless the job has ended."""

    def artifacts(self, owner: str, job: str) -> builtins.list[pb.Artifact]:
        """By name; there are none before SUCCEEDED."""

    def artifact(self, owner: str, job: str, name: str) -> pb.Artifact:
        """Raises NotFound."""

    def listen(self, job: str, listener: Listener, after: int = 0) -> Callable[[], None]:
        """Have `listener` called with new events of `job`, those after `after`; returns what ends that.

        It is called in a thread of the store's, must return at once and must not raise. Batches may come late, twice
        or (while the database is away) not at all, so: skip sequences that are known, read `events` where there is a
        gap, and read `events` every now and then.
        """


class WorkerStore(Protocol):
    """What the runner needs."""

    @property
    def retries(self) -> Retries: ...

    def claim(self, worker: str, *, limits: Limits = ...) -> tuple[Job, Lease] | None:
        """A queued job, made RUNNING with attempt + 1; None if there is none that may run.

        Highest priority first; among those the owner with the fewest jobs running; among those the oldest job.
        """

    def require_lease(self, lease: Lease) -> Job:
        """The job as it is now."""

    def attach(self, lease: Lease, handle: str) -> None:
        """Note which process works on the job."""

    def heartbeat(self, lease: Lease, ran: float = 0.0) -> ControlFlags:
        """Keep the lease and add `ran` seconds to the job's running time."""

    def emit(self, lease: Lease, events: Iterable[pb.JobEvent]) -> None:
        """Append events; sequence, time and attempt are filled in. A Progress also becomes the job's."""

    def checkpoint(self, lease: Lease, digest: str) -> None:
        """Make the artifact `digest` the job's newest checkpoint."""

    def publishing(self, lease: Lease) -> None: ...

    def succeed(self, lease: Lease, result: pb.JobResult) -> Job:
        """Artifacts, result and SUCCEEDED in one transaction. Repeating it is harmless."""

    def abandon(self, lease: Lease, reason: str) -> Job:
        """The process has stopped as asked: CANCELLED, PAUSED or QUEUED, as the owner wished."""

    def fail(self, lease: Lease, error: pb.JobError, *, memory: bool = False) -> Job:
        """FAILED, or QUEUED again if `retry_policy` says so; CANCELLED if the owner asked for that.

        Args:
            lease: The right to work on the job.
            error: Why it failed.
            memory: Whether it ran out of memory.
        """

    def leases(self) -> list[LeaseView]:
        """All leases, of all workers."""

    def reclaim(self, view: LeaseView, reason: str) -> Job:
        """Take the job of a lost worker back, if its lease has not changed since `leases`. Raises LeaseLost."""

    def referenced(self, digests: Sequence[str]) -> set[str]:
        """Which of the digests some job still needs."""


class Store(ClientStore, WorkerStore, Protocol):
    def check(self) -> None:
        """Raises DataLoss if the database is damaged, Unavailable if it does not answer."""

    def close(self) -> None: ...
