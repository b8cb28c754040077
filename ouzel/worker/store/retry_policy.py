"""What becomes of a job whose process has failed or was lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ouzel.worker.store.job import Job, State
from ouzel_protos.v1 import job_pb2 as pb


@dataclass(frozen=True)
class Retries:
    """How often a failed job is tried again.

    Attributes:
        lost: Processes that it may lose between two checkpoints.
        memory: How often it may run out of memory.
    """

    lost: int = 4
    memory: int = 1


@dataclass(frozen=True)
class Verdict:
    """What becomes of a job.

    Attributes:
        state: Its next state.
        reason: For the event.
        changes: Fields of the job that change with it.
    """

    state: State
    reason: str
    changes: dict[str, Any]


def infrastructure(message: str) -> pb.JobError:
    """The error of a job whose process or machine was lost."""
    return pb.JobError(failure_class=pb.JobError.INFRASTRUCTURE, message=message)


def after_failure(job: Job, error: pb.JobError, *, memory: bool, retries: Retries) -> Verdict:
    """What becomes of a job whose process failed.

    A lost process is tried again; one that ran out of memory is tried once more, with half the batch.

    Args:
        job: As it is now.
        error: Why the process failed.
        memory: Whether it ran out of memory.
        retries: How often it is tried again.
    """
    lost = job.lost + (error.failure_class == pb.JobError.INFRASTRUCTURE)
    deaths = job.memory_deaths + memory
    changes: dict[str, Any] = {"lost": lost, "memory_deaths": deaths}
    if job.state is State.CANCELLING:
        return Verdict(State.CANCELLED, "cancelled", changes)
    retried = deaths <= retries.memory if memory else job.lost < lost <= retries.lost
    if not retried:
        return Verdict(State.FAILED, error.message, changes | {"error": error})
    if memory:
        changes["batch_scale"] = job.batch_scale / 2
    return Verdict(State.PAUSED if job.pause else State.QUEUED, f"retried: {error.message}", changes)


def after_stop(job: Job, reason: str) -> Verdict:
    """What becomes of a job whose process has stopped as it was asked to."""
    if job.state is State.CANCELLING:
        return Verdict(State.CANCELLED, "cancelled", {})
    return Verdict(State.PAUSED, "paused", {}) if job.pause else Verdict(State.QUEUED, reason, {})
