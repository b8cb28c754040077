r"""What a job is, and the states that it goes through.

    QUEUED -> RUNNING -> PUBLISHING -> SUCCEEDED
       ^        |  \______________ FAILED  -> QUEUED (retry)
       |        v
       +----- PAUSED        every live state -> CANCELLING -> CANCELLED -> QUEUED (retry)

Messages of the wire serve as values where the store does not look inside: spec, progress, error, result, events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from ouzel.errors import OuzelError
from ouzel_protos.progress import settled
from ouzel_protos.v1 import job_pb2 as pb


def slots_of(spec: pb.JobSpec) -> int:
    """How many slots of a worker a job takes."""
    return max(1, spec.finetune.workers)


class State(IntEnum):
    """The numbers are those of the wire; 1 is no more in use. UNSPECIFIED is what a job comes from."""

    UNSPECIFIED = 0
    QUEUED = 2
    RUNNING = 3
    PUBLISHING = 4
    PAUSED = 5
    CANCELLING = 6
    SUCCEEDED = 7
    FAILED = 8
    CANCELLED = 9


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
# A process may be at work on a job in one of these: it has a lease.
LEASED = frozenset({State.RUNNING, State.PUBLISHING, State.CANCELLING})

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.UNSPECIFIED: frozenset({State.QUEUED}),
    State.QUEUED: frozenset({State.RUNNING, State.PAUSED, State.CANCELLING}),
    State.RUNNING: frozenset({State.PUBLISHING, State.QUEUED, State.PAUSED, State.CANCELLING, State.FAILED}),
    State.PUBLISHING: frozenset({State.SUCCEEDED, State.QUEUED, State.PAUSED, State.CANCELLING, State.FAILED}),
    State.PAUSED: frozenset({State.QUEUED, State.CANCELLING}),
    # A cancel may come too late.
    State.CANCELLING: frozenset({State.CANCELLED, State.SUCCEEDED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}


@dataclass(frozen=True)
class NewJob:
    """What a caller asks for.

    Attributes:
        spec: What to do, with what the service has filled in.
        request_id: Makes a repeated request harmless; "" if the caller gave no id.
        priority: Higher runs first.
        labels: For lists of jobs.
        timeout: Seconds of running over all attempts; None for no limit.
        asked: The spec as the caller sent it; None if it is `spec`. Only this counts when a request comes again.
        refusal: Why there can be no new job; a request that comes again still gets its job.
    """

    spec: pb.JobSpec
    request_id: str = ""
    priority: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    asked: pb.JobSpec | None = None
    refusal: OuzelError | None = None

    @property
    def kind(self) -> str:
        """Name of the spec's kind, "" if the spec has no kind."""
        return self.spec.WhichOneof("kind") or ""


@dataclass(frozen=True)
class Job:
    """A job as the store holds it. Times are seconds since the epoch, `ran` and `timeout` seconds of running."""

    id: str
    owner: str
    kind: str
    spec: pb.JobSpec
    state: State
    attempt: int
    progress: pb.Progress
    created: float
    started: float | None
    ended: float | None
    updated: float
    error: pb.JobError | None
    result: pb.JobResult | None
    last_sequence: int
    priority: int
    labels: Mapping[str, str]
    request_id: str
    timeout: float | None
    ran: float = 0.0  # of all attempts together
    lost: int = 0  # processes lost since the last checkpoint
    memory_deaths: int = 0
    batch_scale: float = 1.0  # halved after running out of memory
    checkpoint: str = ""  # digest of the newest checkpoint
    pause: bool = False  # wished for; PAUSED once the process has stopped
    worker: str = ""  # who holds the lease
    slots: int = 1  # that it takes while it runs

    @property
    def max_cost(self) -> float | None:
        """Seconds of running that it may cost."""
        if not self.spec.HasField("max_cost"):
            return None
        return self.spec.max_cost.seconds + self.spec.max_cost.nanos / 1e9

    def message(self) -> pb.Job:
        """The job on the wire."""
        out = pb.Job(
            id=self.id,
            spec=self.spec,
            state=int(self.state),  # type: ignore[arg-type]
            attempt=self.attempt,
            progress=settled(self.progress, int(self.state)),
            create_time=timestamp(self.created),
            update_time=timestamp(self.updated),
            error=self.error,
            result=self.result,
            last_sequence=self.last_sequence,
            priority=self.priority,
            labels=self.labels,
            request_id=self.request_id,
        )
        if self.started is not None:
            out.start_time.CopyFrom(timestamp(self.started))
        if self.ended is not None:
            out.end_time.CopyFrom(timestamp(self.ended))
        if self.timeout is not None:
            out.max_duration.CopyFrom(duration(self.timeout))
        return out


@dataclass(frozen=True)
class Query:
    """Which jobs to list, newest first; page_size 1 to 500."""

    states: frozenset[State] = frozenset()
    kind: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    page_size: int = 50
    page_token: str = ""


@dataclass(frozen=True)
class Page:
    """Some of the jobs that a query asks for.

    Attributes:
        jobs: Newest first.
        next_page_token: For the next page; "" on the last one.
    """

    jobs: tuple[Job, ...]
    next_page_token: str  # "" on the last page


@dataclass(frozen=True)
class Lease:
    """The right to work on a job.

    Attributes:
        job: Its id.
        attempt: The fence: a process with an older one is refused.
        worker: Who holds the lease.
    """

    job: str
    attempt: int
    worker: str


@dataclass(frozen=True)
class LeaseView:
    """A lease as other workers see it.

    Attributes:
        lease: The lease.
        beat: It lives as long as this number changes.
        handle: Names the job's process.
    """

    lease: Lease
    beat: int
    handle: str


@dataclass(frozen=True)
class ControlFlags:
    """What the owner wants of a running job.

    Attributes:
        cancel: Whether it is to end.
        pause: Whether it is to stop after its checkpoint.
        last_sequence: Number of its newest event, which tells whether it makes progress.
    """

    cancel: bool
    pause: bool
    last_sequence: int = 0


@dataclass(frozen=True)
class Sign:
    """What a job's process sees of its own lease.

    Attributes:
        beat: Changes as long as somebody supervises the job.
        stop: Whether to stop after the next checkpoint.
        kill: Whether to end at once.
    """

    beat: int
    stop: bool
    kill: bool


def timestamp(seconds: float) -> Timestamp:
    """Seconds since the epoch as a message."""
    out = Timestamp()
    out.FromMicroseconds(round(seconds * 1e6))
    return out


def duration(seconds: float) -> Duration:
    """Seconds as a message."""
    out = Duration()
    out.FromMicroseconds(round(seconds * 1e6))
    return out
