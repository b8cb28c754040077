"""The process of a job, with the task in its environment.

    python -m ouzel.worker.processes.job_process --job ID --attempt N

It ends with status 0 once the store knows how the job stands, whatever that is. It ends with another status if it could
not tell the store; then its supervisor does.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import uuid
from contextlib import closing
from dataclasses import dataclass

from ouzel.errors import DataLoss, NotFound, OuzelError, ResourceExhausted, Unavailable
from ouzel.telemetry import logs, tracing
from ouzel.worker import kinds
from ouzel.worker.artifacts.patience import patiently
from ouzel.worker.artifacts.protocol import Artifacts, StorageAway
from ouzel.worker.kinds.context import JobContext, JobInterrupted, JobOutput
from ouzel.worker.parent_watch import end_with_parent
from ouzel.worker.processes import lease_watch
from ouzel.worker.processes.executor import VARIABLE, Task
from ouzel.worker.store.job import Job, Lease
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import LeaseLost, Store
from ouzel_protos.v1 import job_pb2 as pb

_log = logging.getLogger(__name__)
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


def main() -> int:
    """Runs the job that the environment names; returns the exit status."""
    logs.configure("%(asctime)s %(levelname)s %(message)s")
    task = Task.from_json(os.environ.pop(VARIABLE))
    tracing.start("ouzel-job")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which then stops its jobs in order
    end_with_parent()
    try:
        store = open_store(task.environment.store, retries=task.environment.retries, check=False)
        try:
            with lease_watch.watching(task, store, stop):
                _run(task, store, stop)
        finally:
            store.close()
    except LeaseLost as error:
        _log.warning("%s; what this process did is of no effect", error)
    except Unavailable:
        _log.exception("the store cannot be told")
        return 1
    finally:
        tracing.stop()
    return 0


def _run(task: Task, store: Store, stop: threading.Event) -> None:
    lease = Lease(task.job, task.attempt, task.worker)
    job = store.require_lease(lease)
    attributes: dict[str, str | int] = {"ouzel.job": job.id, "ouzel.kind": job.kind, "ouzel.attempt": job.attempt}
    parent = {key: getattr(job.spec, key) for key in tracing.KEYS}
    with tracing.span(f"job {job.kind}", kind="consumer", parent=parent, attributes=attributes) as span:
        if (error := _run_job(task, store, lease, job, stop=stop)) is not None:
            tracing.fail(span, pb.JobError.Class.Name(error.failure_class))


def _run_job(task: Task, store: Store, lease: Lease, job: Job, *, stop: threading.Event) -> pb.JobError | None:
    """Returns why the job failed, once the store knows it."""
    try:
        artifacts = task.environment.open_artifacts()
        context = JobContext(
            store,
            lease,
            task.environment,
            owner=job.owner,
            checkpoint=patiently(lambda: _checkpoint(artifacts, job), stop),
            batch_scale=job.batch_scale,
            stop=stop,
        )
        with closing(context):
            done = kinds.find(job.kind).run(getattr(job.spec, job.kind), context)
            context.end_phase()
            with tracing.span("publish"):
                store.publishing(lease)
                store.succeed(lease, patiently(lambda: _published(done, artifacts), stop))
    except JobInterrupted:
        store.abandon(lease, "stopped at a checkpoint")
    except (LeaseLost, Unavailable):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the owner of the job must hear of it
        if isinstance(error, StorageAway) and stop.is_set():
            store.abandon(lease, "stopped while its storage was away")
            return None
        failure = failure_of(error)
        _log.exception("the job failed%s", f" (error {failure.error.error_id})" if failure.error.error_id else "")
        store.fail(lease, failure.error, memory=failure.memory)
        return failure.error
    return None


def _checkpoint(artifacts: Artifacts, job: Job) -> bytes | None:
    """A damaged checkpoint costs the work since the start, not the job."""
    if not job.checkpoint:
        return None
    try:
        return artifacts.get(job.checkpoint).removeprefix(f"{job.id}\n".encode())  # see `JobContext.save`
    except (DataLoss, NotFound) as error:
        _log.warning("starting from the beginning: the checkpoint cannot be used: %s", error)
        return None


def _published(done: JobOutput, artifacts: Artifacts) -> pb.JobResult:
    result = pb.JobResult()
    for file in sorted(done.files, key=lambda file: file.name):
        digest, size = artifacts.put(file.content)
        result.artifacts.add(name=file.name, media_type=file.media_type, size=size, sha256=digest)
    result.summary.update(done.summary)
    return result


@dataclass(frozen=True)
class Failure:
    """What a job ended with.

    Attributes:
        error: As its owner sees it.
        memory: Whether it ran out of memory.
    """

    error: pb.JobError
    memory: bool = False


def failure_of(error: Exception) -> Failure:
    """What the owner of a job learns of an exception.

    Args:
        error: The owner gets the text of our own errors, and only an id of other errors.
    """
    if _is_memory(error):
        message = "out of memory; fewer or smaller images at a time may fit"
        return Failure(pb.JobError(failure_class=pb.JobError.RESOURCE, message=message), memory=True)
    if isinstance(error, ResourceExhausted):
        return Failure(pb.JobError(failure_class=pb.JobError.RESOURCE, message=str(error), field=error.field))
    away = isinstance(error, StorageAway)  # also one that its operator has to mend
    if away or (isinstance(error, OuzelError) and error.code == Unavailable.code):  # another's failure: it may pass
        return Failure(pb.JobError(failure_class=pb.JobError.INFRASTRUCTURE, message=str(error)))
    if isinstance(error, OuzelError) and not isinstance(error, DataLoss):
        return Failure(pb.JobError(failure_class=pb.JobError.USER, message=str(error), field=error.field))
    error_id = uuid.uuid4().hex[:12]
    message = f"internal error {error_id}; the worker's log says more"
    return Failure(pb.JobError(failure_class=pb.JobError.INFRASTRUCTURE, message=message, error_id=error_id))


def _is_memory(error: Exception) -> bool:
    """Whether an error is about memory. Without torch: on the CPU only the text of its errors tells."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


if __name__ == "__main__":
    sys.exit(main())
