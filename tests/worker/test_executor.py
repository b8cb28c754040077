"""The contract of executors, written once: a new executor adds itself to `executor` and passes the same tests."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from ouzel.forking import server
from ouzel.forking.client import ForkServer
from ouzel.worker.processes.executor import Executor, Probe, State, Task
from ouzel.worker.processes.local_executor import LocalExecutor
from ouzel.worker.store.job import Job, Lease
from ouzel.worker.store.job import State as JobState
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import Store
from support.executors import rays
from support.jobs import STUBS, count, ended, environment, submit, until
from support.stub_kinds.maximize import Fault


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with closing(ForkServer([])) as started:
        until(started.warm)
        yield started


@pytest.fixture(params=["spawned", "forked", "ray"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def create(way: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Executor]]:
    """Makes executors that know of each other's processes by their handles alone."""
    if way == "ray":
        running, store = request.getfixturevalue("ray_cluster"), request.getfixturevalue("jobs")
        with rays(running, store, tmp_path) as made:
            yield made
    else:
        forks = request.getfixturevalue("forks") if way == "forked" else None
        yield lambda: LocalExecutor(tmp_path / "logs", forks)


@pytest.fixture
def executor(create: Callable[[], Executor]) -> Executor:
    return create()


@pytest.fixture
def jobs_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if "way" in request.fixturenames and request.getfixturevalue("way") == "ray":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite://{tmp_path / 'jobs.db'}"


@pytest.fixture
def jobs(jobs_url: str) -> Iterator[Store]:
    with closing(open_store(jobs_url)) as store:
        yield store


@pytest.fixture
def task(jobs: Store, jobs_url: str, tmp_path: Path) -> Task:
    """Of a job that counts for a minute."""
    submit(jobs, count(600, 0.1))
    claimed = jobs.claim("somebody")
    assert claimed
    return task_of(claimed[1], jobs_url, tmp_path)


def task_of(lease: Lease, url: str, folder: Path, **variables: str) -> Task:
    told = environment(url, folder, models=folder)
    return Task(lease.job, lease.attempt, lease.worker, told, variables=STUBS | variables)


def only(jobs: Store) -> Job:
    return jobs.get("me", jobs.leases()[0].lease.job)


def test_runs_until_it_is_stopped(executor: Executor, task: Task, jobs: Store) -> None:
    handle = executor.submit(task)
    until(lambda: only(jobs).progress.step > 2)
    assert executor.probe(handle).state is State.RUNNING
    executor.stop(handle)
    until(lambda: executor.probe(handle).state is State.ENDED)
    assert executor.probe(handle).code == 0
    job = jobs.get("me", task.job)
    assert (job.state, job.checkpoint != "") == (JobState.QUEUED, True)


def test_killed_at_once(executor: Executor, task: Task, jobs: Store) -> None:
    handle = executor.submit(task)
    until(lambda: only(jobs).progress.step > 0)
    executor.stop(handle, kill=True)
    until(lambda: executor.probe(handle).state is State.ENDED, 5)
    assert executor.probe(handle).code == -signal.SIGKILL
    executor.stop(handle)  # no effect, no error
    executor.stop(handle, kill=True)


def test_children_end_with_it(executor: Executor, jobs: Store, jobs_url: str, tmp_path: Path) -> None:
    """Data loaders and the like must not outlive a job, also one that was killed from elsewhere."""
    submit(jobs, count(600, 0.1, fault=Fault.CHILD))
    claimed = jobs.claim("somebody")
    assert claimed
    handle = executor.submit(task_of(claimed[1], jobs_url, tmp_path))
    note = tmp_path / "artifacts" / "child"
    until(lambda: note.exists() and note.read_text() != "")
    child = psutil.Process(int(note.read_text()))
    child.parent().kill()
    until(lambda: executor.probe(handle).state is State.ENDED)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5)


def test_a_job_outlives_what_it_was_forked_from(jobs: Store, jobs_url: str, tmp_path: Path) -> None:
    submit(jobs, count(600, 0.1, fault=Fault.CHILD))
    claimed = jobs.claim("somebody")
    assert claimed
    with closing(ForkServer([])) as forks:
        until(forks.warm)
        executor = LocalExecutor(tmp_path / "logs", forks)
        handle = executor.submit(task_of(claimed[1], jobs_url, tmp_path))
        note = tmp_path / "artifacts" / "child"
        until(lambda: note.exists() and note.read_text() != "")
        child = psutil.Process(int(note.read_text()))
        job = child.parent()
        job.parent().kill()
        until(lambda: job.parent().name() != server.NAME)
        step = only(jobs).progress.step
        until(lambda: only(jobs).progress.step > step)
        assert executor.probe(handle).state is State.RUNNING
        job.kill()
        until(lambda: executor.probe(handle).state is State.ENDED)
        assert executor.probe(handle) == Probe(State.ENDED, None)
        until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5)


def test_another_process_can_ask(create: Callable[[], Executor], executor: Executor, task: Task, jobs: Store) -> None:
    """Handles are texts, good anywhere, also after a restart."""
    handle = executor.submit(task)
    other = create()
    assert other.probe(handle).state is State.RUNNING
    other.stop(handle, kill=True)
    until(lambda: other.probe(handle).state is State.ENDED)
    until(lambda: executor.probe(handle).state is State.ENDED)


def test_unknown_is_not_ended(executor: Executor, tmp_path: Path) -> None:
    for handle in ("", "elsewhere/1/2/log", "nonsense"):
        assert executor.probe(handle).state is State.UNKNOWN
        executor.stop(handle, kill=True)
        assert executor.logs(handle) == ""


def test_logs(executor: Executor, jobs: Store, jobs_url: str, tmp_path: Path) -> None:
    job = submit(jobs, count(2, fault=Fault.ERROR))
    claimed = jobs.claim("somebody")
    assert claimed
    handle = executor.submit(task_of(claimed[1], jobs_url, tmp_path))
    until(lambda: executor.probe(handle).state is State.ENDED)
    assert "a secret path" in executor.logs(handle)
    assert len(executor.logs(handle, 100)) <= 100
    assert jobs.get("me", job.id).state is JobState.QUEUED


_STARTER = """
import sys
from pathlib import Path
from ouzel.forking import server
from ouzel.forking.client import ForkServer
from ouzel.worker.processes.executor import Task
from ouzel.worker.processes.local_executor import LocalExecutor

forks = ForkServer([]) if sys.argv[3] == "forked" else None
while forks is not None and not forks.warm():
    pass
executor = LocalExecutor(Path(sys.argv[1]), forks)
print(executor.submit(Task.from_json(sys.argv[2])), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("start", ["spawned", "forked"])
def test_ends_with_whoever_started_it(start: str, task: Task, jobs: Store, tmp_path: Path) -> None:
    """A worker that is killed leaves nobody behind who computes on. (Of the local executor.)"""
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(tmp_path / "logs"), task.to_json(), start],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert starter.stdout
        handle = starter.stdout.readline().strip()
        until(lambda: only(jobs).progress.step > 0)
        executor = LocalExecutor(tmp_path / "logs")
        assert executor.probe(handle).state is State.RUNNING
    finally:
        starter.kill()
        starter.communicate()
    until(lambda: executor.probe(handle).state is State.ENDED, 5)


def test_a_lease_that_is_gone_ends_the_process(executor: Executor, task: Task, jobs: Store) -> None:
    """Without a word to the store: what it did is of no effect."""
    handle = executor.submit(task)
    until(lambda: only(jobs).progress.step > 0)
    jobs.reclaim(jobs.leases()[0], "somebody else has it")
    before = jobs.get("me", task.job)
    until(lambda: executor.probe(handle).state is State.ENDED)
    assert executor.probe(handle).code == 0
    assert jobs.get("me", task.job) == before


def test_progress_is_seen_as_it_comes(executor: Executor, task: Task, jobs: Store) -> None:
    handle = executor.submit(task)
    until(lambda: only(jobs).progress.step > 0)
    first = only(jobs).progress.step
    time.sleep(0.5)
    assert only(jobs).progress.step > first
    executor.stop(handle, kill=True)
    until(lambda: executor.probe(handle).state is State.ENDED)


def test_a_job_that_gets_through(executor: Executor, jobs: Store, jobs_url: str, tmp_path: Path) -> None:
    """A job that gets through tells the store itself."""
    job = submit(jobs, count(2))
    claimed = jobs.claim("somebody")
    assert claimed
    executor.submit(task_of(claimed[1], jobs_url, tmp_path))
    assert ended(jobs, job).state is JobState.SUCCEEDED
