"""Runners over real processes of stub kinds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ouzel.worker.job import FINAL, Job, NewJob, State
from ouzel.worker.local import LocalExecutor
from ouzel.worker.runner import Places, Runner, RunnerOptions
from ouzel.worker.store import Store
from ouzel.worker.supervised import Slot, Timing
from ouzel_protos.v1 import explain_pb2
from ouzel_protos.v1 import job_pb2 as pb

TESTS = Path(__file__).parents[1]
KINDS = "support.stub_kinds"
QUICK = RunnerOptions(timing=Timing(beat=0.1, watchdog=60, cancel_grace=1, pause_grace=5), lease=2.0, checkpoint=0.0)


def count(steps: int = 5, seconds: float = 0.0, fault: int = 0, model: str = "m") -> pb.JobSpec:
    """A job that counts."""
    parameters = {
        "steps": explain_pb2.Parameter(integer=steps),
        "seconds": explain_pb2.Parameter(number=seconds),
    }
    return pb.JobSpec(maximize=pb.MaximizeSpec(model=model, parameters=parameters, seed=fault))


@contextmanager
def runner(
    store: Store, url: str, folder: Path, options: RunnerOptions = QUICK, slots: int = 1, host: str = ""
) -> Iterator[Runner]:
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    rooms = [Slot(f"cpu{number}", {"PYTHONPATH": path}) for number in range(slots)]
    places = Places(url, folder / "artifacts", folder / "models", kinds=KINDS)
    found = Runner(store, LocalExecutor(folder / "logs", host), rooms, places, options=options, host=host)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until it does; fails if it does not."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def ended(store: Store, job: Job, seconds: float = 30.0) -> Job:
    until(lambda: store.get(job.owner, job.id).state in FINAL, seconds)
    return store.get(job.owner, job.id)


def states(store: Store, job: Job) -> list[str]:
    """The names of the states that it has gone through."""
    events = store.events(job.owner, job.id, limit=10_000)
    return [State(each.state_change.state).name for each in events if each.HasField("state_change")]


def submit(store: Store, spec: pb.JobSpec, **more: object) -> Job:
    return store.create("me", NewJob(spec, **more))  # type: ignore[arg-type]
