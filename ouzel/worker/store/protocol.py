"""The store of jobs: the one source of truth, behind one Protocol for SQLite and PostgreSQL.

All methods block for milliseconds, are safe to call from any thread, and have committed durably when they return.
Methods for callers take the `owner` who calls: a job of somebody else is NotFound. Methods for workers take a `Lease`
and raise `LeaseLost` if the job is no longer theirs.

Errors: InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, ResourceExhausted (a limit, or the disk is full),
Unavailable (the database does not answer; what was asked may or may not have happened), all of ouzel.errors.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ouzel.worker.store.accounts import AccountStore
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
from ouzel.worker.store.retry_policy import Retries
from ouzel_protos.v1 import job_pb2 as pb

Listener = Callable[[Sequence[pb.JobEvent]], None]


@dataclass(frozen=True)
class Statistics:
    """Figures of all jobs of all owners.

    Attributes:
        jobs: How many there are, by the name of their state and their kind.
        oldest_queued: Seconds since the job that has waited longest was queued; 0 if none waits.
    """

    jobs: Mapping[tuple[str, str], int]
    oldest_queued: float


class LeaseLost(Exception):
    """The job belongs to another worker, has ended, or was deleted: stop working on it."""


class ClientStore(Protocol):
    """What the services need. `owner` is who calls; a job of another owner is NotFound."""

    def create(self, owner: str, new: NewJob, *, limits: Limits = ...) -> Job:
        """Commits a job that has been validated. The same request_id and body give the same job again.

        Args:
            owner: Who calls.
            new: What is asked for.
            limits: Of the owner.

        Raises:
            AlreadyExists: The request_id was used with another body.
            ResourceExhausted: Too many jobs of the owner wait.
        """

    def get(self, owner: str, job: str) -> Job:
        """A job as it is now."""

    def list(self, owner: str, query: Query) -> Page:
        """Jobs of the owner, newest first.

        Args:
            owner: Who calls.
            query: Which jobs.

        Raises:
            InvalidArgument: The page token was not given out for this owner and query.
        """

    def events(self, owner: str, job: str, after: int = 0, limit: int = 500) -> builtins.list[pb.JobEvent]:
        """Events of a job, in order, without gap.

        Args:
            owner: Who calls.
            job: Its id.
            after: Only events with a greater sequence number.
            limit: How many at most.
        """

    def cancel(self, owner: str, job: str) -> Job:
        """Makes a job CANCELLED, or CANCELLING while a process works on it. One that has ended stays as it is."""

    def pause(self, owner: str, job: str) -> Job:
        """Makes a queued job PAUSED; a running one becomes so after its checkpoint. Raises FailedPrecondition."""

    def resume(self, owner: str, job: str) -> Job:
        """Queues a paused job, or takes back a pause that has not happened yet. Raises FailedPrecondition."""

    def retry(self, owner: str, job: str, *, limits: Limits = ...) -> Job:
        """Queues a FAILED or CANCELLED job again. Raises FailedPrecondition or ResourceExhausted."""

    def delete(self, owner: str, job: str) -> None:
        """Removes a job that has ended. Raises FailedPrecondition for others."""

    def artifacts(self, owner: str, job: str) -> builtins.list[pb.Artifact]:
        """The artifacts of a job, sorted by name; empty before SUCCEEDED."""

    def artifact(self, owner: str, job: str, name: str) -> pb.Artifact:
        """One artifact of a job. Raises NotFound."""

    def listen(self, job: str, listener: Listener, after: int = 0) -> Callable[[], None]:
        """Has a listener called with new events of a job.

        It is called in a thread of the store, must return at once and must not raise. Batches may come late, twice or
        (while the database is away) not at all. A listener therefore skips sequence numbers that it knows, reads
        `events` where there is a gap, and reads `events` now and then.

        Args:
            job: Its id.
            listener: Gets the events.
            after: Only events with a greater sequence number.

        Returns:
            What ends it.
        """


class WorkerStore(Protocol):
    """What the runner and the processes of jobs need. A `Lease` that is over raises LeaseLost."""

    @property
    def retries(self) -> Retries:
        """How often failed jobs are tried again."""

    def claim(
        self,
        worker: str,
        *,
        limits: EachLimits = ...,
        gpus: float = 0,
        gpus_by_kind: Mapping[str, float] = ...,
        free: int = 1,
        slots: int = 1,
    ) -> tuple[Job, Lease] | None:
        """Makes a queued job RUNNING, with attempt + 1.

        The highest priority comes first; among those the owner with the fewest slots in use; among those the oldest
        job. Those of owners whose day is used up wait for the next one. One that needs more slots than are free waits
        for them, and those after it wait, too; one that needs more than the worker has is left to other workers.

        Args:
            worker: Who gets the lease.
            limits: Of each owner.
            gpus: How many the job gets with each slot.
            gpus_by_kind: How many jobs of some kinds get instead.
            free: Slots of the worker that no job has.
            slots: Slots of the worker.

        Returns:
            The job and its lease; None if no job may run.
        """

    def require_lease(self, lease: Lease) -> Job:
        """The job as it is now. Raises LeaseLost."""

    def attach(self, lease: Lease, handle: str) -> None:
        """Notes which process works on the job."""

    def heartbeat(self, lease: Lease, ran: float = 0.0, gpus: float = 0) -> ControlFlags:
        """Keeps the lease.

        Args:
            lease: The right to work on the job.
            ran: Seconds that the job has run for, over all attempts. What it says beyond what the store knows is
                counted, so that it may be said again.
            gpus: How many the job has.

        Returns:
            What the owner wants of the job.
        """

    def settle(self, lease: Lease, ran: float, gpus: float = 0) -> None:
        """Counts the last of an attempt, also if it has ended its lease, but not once there is a later one.

        Args:
            lease: Of the attempt.
            ran: See `heartbeat`.
            gpus: How many the job had.
        """

    def ask_stop(self, job: str, attempt: int, *, kill: bool = False) -> None:
        """Leaves word for the process of an attempt, which reads it by `sign`, wherever it runs.

        Args:
            job: Its id.
            attempt: Of which the process is.
            kill: Whether to end at once, and not after the next checkpoint.
        """

    def sign(self, lease: Lease) -> Sign:
        """What a job's process must know of its own lease."""

    def emit(self, lease: Lease, events: Iterable[pb.JobEvent]) -> None:
        """Appends events; sequence, time and attempt are filled in. A Progress also becomes the job's."""

    def checkpoint(self, lease: Lease, digest: str, events: Iterable[pb.JobEvent] = ()) -> None:
        """Makes the artifact of this digest the job's newest checkpoint, and appends events in the same transaction."""

    def publishing(self, lease: Lease) -> None:
        """Makes a running job PUBLISHING."""

    def succeed(self, lease: Lease, result: pb.JobResult) -> Job:
        """Stores artifacts, result and SUCCEEDED in one transaction. It may be repeated."""

    def abandon(self, lease: Lease, reason: str) -> Job:
        """The process has stopped as asked: the job becomes CANCELLED, PAUSED or QUEUED, as its owner wants."""

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
        """Queues the job of a lost worker again.

        Args:
            view: Its lease, which must not have changed since `leases`.
            reason: For the event.

        Raises:
            LeaseLost: The lease is alive.
        """

    def enter(self, worker: str, slots: int, lives: float) -> None:
        """Says that a worker is there, and tells jobs that need more slots than any worker has; see `waits.enter`.

        Args:
            worker: Its name.
            slots: That it has.
            lives: Seconds for which it counts.
        """

    def leave(self, worker: str) -> None:
        """Says that it is not there any more."""

    def state(self, job: str) -> State | None:
        """The state of a job, whoever's it is; None if it was deleted."""

    def referenced(self, digests: Sequence[str]) -> set[str]:
        """Which of some digests a job still needs."""


class NoticeStore(Protocol):
    """What delivers webhooks needs."""

    def take_notice(self, prefix: str, seconds: float) -> Notice | None:
        """Takes the notice that has been due longest, and of its job is the oldest.

        Args:
            prefix: Of the address.
            seconds: In which nobody else takes it.

        Returns:
            The notice; None if none is due.
        """

    def settle_notice(self, notice: Notice, wait: float | None) -> None:
        """Ends an attempt: removes the notice, or has it tried again after `wait` seconds."""


class Store(ClientStore, WorkerStore, NoticeStore, AccountStore, Protocol):
    """A store of jobs."""

    def statistics(self) -> Statistics:
        """Figures of all jobs."""

    def artifact_bytes(self) -> int:
        """Size of the artifacts of all jobs; one that several have counts once."""

    def check(self) -> None:
        """Raises DataLoss if the database is damaged, Unavailable if it does not answer."""

    def close(self) -> None:
        """Closes the database; all later calls raise Unavailable."""
