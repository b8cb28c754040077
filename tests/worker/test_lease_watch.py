"""What a job's process does where no signal reaches it: it reads in the store whether to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ouzel.worker.processes.executor import Probe, State, Task
from ouzel.worker.processes.local_executor import LocalExecutor
from ouzel.worker.store.job import Job, Lease
from ouzel.worker.store.job import State as JobState
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import LeaseLost, Store
from support.jobs import STUBS, count, environment, submit, until
from support.stub_kinds.maximize import Fault

Start = Callable[..., tuple[Job, Lease, str]]


@pytest.fixture
def executor(tmp_path: Path) -> LocalExecutor:
    return LocalExecutor(tmp_path / "logs")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(f"sqlite://{tmp_path / 'jobs.db'}")) as store:
        yield store


@pytest.fixture
def start(executor: LocalExecutor, jobs: Store, tmp_path: Path) -> Iterator[Start]:
    handles = []

    def started(patience: float, fault: Fault = Fault.NONE, steps: int = 600) -> tuple[Job, Lease, str]:
        job = submit(jobs, count(steps, 0.05, fault=fault))
        claimed = jobs.claim("somebody")
        assert claimed
        told = environment(f"sqlite://{tmp_path / 'jobs.db'}", tmp_path, models=tmp_path)
        task = Task(job.id, 1, "somebody", told, variables=STUBS)
        handles.append(executor.submit(replace(task, patience=patience)))
        until(lambda: jobs.get("me", job.id).progress.step > 0)
        return job, claimed[1], handles[-1]

    yield started
    for handle in handles:
        executor.stop(handle, kill=True)


def ended(executor: LocalExecutor, handle: str) -> Probe:
    until(lambda: executor.probe(handle).state is State.ENDED, 20)
    return executor.probe(handle)


def test_word_to_stop(start: Start, executor: LocalExecutor, jobs: Store) -> None:
    job, _, handle = start(60.0)
    jobs.ask_stop(job.id, 1)
    assert ended(executor, handle).code == 0
    done = jobs.get("me", job.id)
    assert (done.state, done.checkpoint != "") == (JobState.QUEUED, True)


def test_word_to_end_reaches_a_process_that_never_asks(start: Start, executor: LocalExecutor, jobs: Store) -> None:
    job, _, handle = start(60.0, Fault.DEAF)
    jobs.ask_stop(job.id, 1, kill=True)
    jobs.ask_stop(job.id, 1)  # takes nothing back
    assert ended(executor, handle).code == 1
    assert jobs.get("me", job.id).state is JobState.RUNNING  # its supervisor sees that it is gone


def test_a_cancel_is_seen_without_a_supervisor(start: Start, executor: LocalExecutor, jobs: Store) -> None:
    job, _, handle = start(60.0)
    jobs.cancel("me", job.id)
    assert ended(executor, handle).code == 0
    assert jobs.get("me", job.id).state is JobState.CANCELLED


def test_a_job_that_nobody_supervises_goes_back(start: Start, executor: LocalExecutor, jobs: Store) -> None:
    job, _, handle = start(1.0)
    assert ended(executor, handle).code == 0
    done = jobs.get("me", job.id)
    assert (done.state, done.checkpoint != "") == (JobState.QUEUED, True)


def test_a_job_that_is_supervised_goes_on(start: Start, executor: LocalExecutor, jobs: Store) -> None:
    job, lease, handle = start(1.0)
    first = jobs.get("me", job.id).progress.step

    def far() -> bool:
        jobs.heartbeat(lease)
        return jobs.get("me", job.id).progress.step > first + 40  # two seconds

    until(far, 60)
    assert executor.probe(handle).state is State.RUNNING


def test_an_orphan_ends_even_if_it_never_asks(start: Start, executor: LocalExecutor, jobs: Store) -> None:
    job, lease, handle = start(60.0, Fault.HANG, steps=4)
    jobs.reclaim(jobs.leases()[0], "others have it")
    before = jobs.get("me", job.id)
    assert ended(executor, handle).code == 0
    assert jobs.get("me", job.id) == before
    with pytest.raises(LeaseLost):
        jobs.sign(lease)


def test_word_is_for_one_attempt_alone(jobs: Store) -> None:
    job = submit(jobs, count())
    claimed = jobs.claim("somebody")
    assert claimed
    jobs.ask_stop(job.id, 1)
    jobs.ask_stop("job-of-nobody", 1)
    assert jobs.sign(claimed[1]).stop
    jobs.abandon(claimed[1], "stopped")
    again = jobs.claim("somebody")
    assert again
    assert not jobs.sign(again[1]).stop
