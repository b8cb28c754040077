"""The runner over processes elsewhere, of which it may hear nothing for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ouzel.errors import Unavailable
from ouzel.worker.processes.executor import Probe, State, Task
from ouzel.worker.runner import runner as runner_module
from ouzel.worker.runner.runner import Runner
from ouzel.worker.runner.supervisor import Slot
from ouzel.worker.store.job import Lease
from ouzel.worker.store.job import State as JobState
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import LeaseLost, Store
from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import QUICK, count, environment, states, submit, until


@dataclass
class Far:
    """An executor whose processes are said to be as they are set to be."""

    state: State = State.RUNNING
    up: bool = True
    seen_ready: bool = True
    tasks: list[Task] = field(default_factory=list)
    stops: list[tuple[str, bool]] = field(default_factory=list)
    refused: int = 0

    def submit(self, task: Task) -> str:
        if not self.up:
            self.refused += 1
            raise Unavailable("the cluster does not answer")
        self.tasks.append(task)
        return f"far/{task.job}-{task.attempt}"

    def ready(self) -> bool:
        return self.seen_ready

    def probe(self, handle: str) -> Probe:
        return Probe(self.state)

    def stop(self, handle: str, *, kill: bool = False) -> None:
        self.stops.append((handle, kill))

    def close(self) -> None:
        pass

    def logs(self, handle: str, last: int = 4096) -> str:
        return ""


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(f"sqlite://{tmp_path / 'jobs.db'}")) as store:
        yield store


@contextmanager
def running(jobs: Store, far: Far, folder: Path, unknown: float = 1.0) -> Iterator[Runner]:
    timing = replace(QUICK.timing, unknown=unknown, cancel_grace=0.2, pause_grace=0.2)
    told = environment(f"sqlite://{folder / 'jobs.db'}", folder)
    made = Runner(jobs, far, [Slot("far", {})], told, options=replace(QUICK, timing=timing))
    made.start()
    try:
        yield made
    finally:
        far.state = State.ENDED
        made.stop()


def test_tasks_say_the_kind(jobs: Store, tmp_path: Path) -> None:
    far = Far()
    submit(jobs, count())
    with running(jobs, far, tmp_path):
        until(lambda: far.tasks != [])
    assert far.tasks[0].kind == "maximize"


def test_nothing_is_claimed_while_nothing_can_be_started(jobs: Store, tmp_path: Path) -> None:
    far = Far(seen_ready=False)
    job = submit(jobs, count())
    with running(jobs, far, tmp_path) as made:
        looked = threading.Event()
        reclaim = made._stalled.reclaim
        made._stalled.reclaim = lambda: (reclaim(), looked.set())[0]  # type: ignore[method-assign]
        assert looked.wait(10)
        assert jobs.get("me", job.id).state is JobState.QUEUED
        far.seen_ready = True
        until(lambda: far.tasks != [])
    assert far.tasks[0].attempt == 1


def test_a_start_that_fails_is_no_fault_of_the_job(
    jobs: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often: it would be FAILED after five otherwise."""
    monkeypatch.setattr(runner_module, "_AFTER_UNAVAILABLE", 0.05)
    far = Far(up=False)
    job = submit(jobs, count())
    with running(jobs, far, tmp_path):
        until(lambda: far.refused > 8)
        far.up = True
        until(lambda: far.tasks != [])
        now = jobs.get("me", job.id)
        assert (now.state, now.lost, now.attempt) == (JobState.RUNNING, 0, far.tasks[0].attempt)
        assert now.attempt > 8  # none is used twice: some of them may have been started after all


def test_an_unknown_process_without_events_is_replaced(jobs: Store, tmp_path: Path) -> None:
    far = Far()
    job = submit(jobs, count())
    with running(jobs, far, tmp_path):
        until(lambda: len(far.tasks) == 1)
        far.state = State.UNKNOWN
        until(lambda: len(far.tasks) == 2)
        far.state = State.RUNNING
    assert (f"far/{job.id}-1", True) in far.stops
    with pytest.raises(LeaseLost):
        jobs.require_lease(Lease(job.id, 1, far.tasks[0].worker))
    retried = [each.state_change.reason for each in jobs.events("me", job.id) if each.HasField("state_change")]
    assert any("nobody can tell what became" in reason for reason in retried)


def test_an_unknown_process_with_events_goes_on(jobs: Store, tmp_path: Path) -> None:
    """Both must be silent: the executor, and the job."""
    far = Far()
    job = submit(jobs, count())
    with running(jobs, far, tmp_path):
        until(lambda: len(far.tasks) == 1)
        far.state = State.UNKNOWN
        lease = Lease(job.id, 1, far.tasks[0].worker)
        for step in range(1, 31):  # three seconds
            jobs.emit(lease, [pb.JobEvent(progress=pb.Progress(step=step, steps=31))])
            assert not threading.Event().wait(0.1)
        assert len(far.tasks) == 1
        jobs.succeed(lease, pb.JobResult())  # and may even get through, and its slot is free again
        other = submit(jobs, count())
        until(lambda: len(far.tasks) == 2)
        assert far.tasks[1].job == other.id
    assert states(jobs, job)[-1] == "SUCCEEDED"


@pytest.mark.parametrize("end", ["cancel", "pause"])
def test_stopping_an_unknown_process_takes_its_grace(jobs: Store, tmp_path: Path, end: str) -> None:
    far = Far()
    job = submit(jobs, count())
    with running(jobs, far, tmp_path, unknown=600.0):
        until(lambda: len(far.tasks) == 1)
        far.state = State.UNKNOWN
        getattr(jobs, end)("me", job.id)
        wanted = JobState.CANCELLED if end == "cancel" else JobState.PAUSED
        until(lambda: jobs.get("me", job.id).state is wanted)
    assert (f"far/{job.id}-1", True) in far.stops
