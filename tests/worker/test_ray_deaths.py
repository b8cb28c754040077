"""Parts of a real Ray cluster die under jobs; `make cluster` runs these. The contract is in test_executor.py."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from ouzel.errors import FailedPrecondition
from ouzel.worker.processes.executor import Executor, State, Task
from ouzel.worker.runner.runner import Runner, RunnerOptions
from ouzel.worker.runner.supervisor import Slot, Timing
from ouzel.worker.store.job import Job
from ouzel.worker.store.job import State as JobState
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import LeaseLost, Store
from ouzel_protos.v1 import job_pb2 as pb
from support.executors import rays
from support.jobs import count, ended, environment, processes_of, states, submit, until, worker
from support.ray_cluster import Cluster, cluster
from support.stub_kinds.maximize import Fault

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
LONG = 240.0  # s, on a busy machine
_TIMING = Timing(beat=0.2, watchdog=120, cancel_grace=1, pause_grace=5, unknown=6.0)


@pytest.fixture(scope="module")
def shared(ray_token: Path) -> Iterator[Cluster]:
    with cluster(ray_token, nodes=1) as made:
        yield made


@pytest.fixture
def running(shared: Cluster) -> Cluster:
    """A head and a node, of which a test may kill what it likes."""
    shared.mend()
    return shared


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    with closing(open_store(postgres_url)) as opened:
        yield opened


@contextmanager
def runner(running: Cluster, store: Store, url: str, folder: Path) -> Iterator[Executor]:
    with rays(running, store, folder, patience=60.0) as create:
        executor = create()
        told = environment(url, folder, models=folder)
        made = Runner(store, executor, [Slot("ray", {})], told, options=RunnerOptions(timing=_TIMING, lease=2.0))
        made.start()
        try:
            yield executor
        finally:
            made.stop()


def process_of(job: Job) -> psutil.Process:
    """That computes, not the one that guards it."""
    until(lambda: len(processes_of(job.id)) == 1, LONG)
    return processes_of(job.id)[0]


def gets_on(store: Store, job: Job, seconds: float = LONG) -> None:
    """Beyond a checkpoint."""
    until(lambda: store.get("me", job.id).checkpoint != "", seconds)
    step = store.get("me", job.id).progress.step
    until(lambda: store.get("me", job.id).progress.step > step, seconds)


def handle_of(store: Store) -> str:
    until(lambda: store.leases() != [] and store.leases()[0].handle != "", LONG)
    return store.leases()[0].handle


def test_worker_on_a_cluster(running: Cluster, store: Store, postgres_url: str, tmp_path: Path) -> None:
    """The real worker: a job, a cancel of one that never listens, a bug whose words are in the log."""
    options = ("--executor", "ray", "--ray-address", running.address, "--ray-python", sys.executable, "--slots", "2")
    options += ("--ray-resources", "*:cpus=1,memory=50MiB", "--store", str(tmp_path / "models"))
    with worker(postgres_url, tmp_path / "state", *options, artifacts=tmp_path / "files") as one:
        first = one.create(count(3))
        done = one.result(first.id, LONG)
        assert done.state == pb.Job.SUCCEEDED, done
        deaf = one.create(count(600, 0.1, fault=Fault.DEAF))
        until(lambda: one.call("GetJob", pb.GetJobRequest(id=deaf.id)).progress.step > 2, LONG)
        one.call("CancelJob", pb.CancelJobRequest(id=deaf.id))
        assert one.result(deaf.id, LONG).state == pb.Job.CANCELLED
        until(lambda: not processes_of(deaf.id), LONG)
        broken = one.create(count(2, fault=Fault.ERROR))
        log = tmp_path / "state" / "jobs" / "logs" / f"{broken.id}-1.log"
        until(lambda: log.exists() and "a secret path" in log.read_text(), LONG)
        assert log.stat().st_mode & 0o077 == 0
        left = one.create(count(600, 0.1))
        until(lambda: one.call("GetJob", pb.GetJobRequest(id=left.id)).progress.step > 2, LONG)
        one.stop()  # in order: the job goes back
    until(lambda: not processes_of(left.id), LONG)
    assert store.state(left.id) is JobState.QUEUED


def test_node_without_power(running: Cluster, store: Store, postgres_url: str, tmp_path: Path) -> None:
    """The job goes on from its checkpoint, on another node, and is published once."""
    job = submit(store, count(150, 0.1))
    with runner(running, store, postgres_url, tmp_path):
        gets_on(store, job)
        running.nodes[0].kill()
        running.mend()
        done = ended(store, job, LONG)
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2)
    assert states(store, job).count("SUCCEEDED") == 1
    assert dict(done.result.summary)["from"] > 0


def test_raylet_killed(running: Cluster, store: Store, postgres_url: str, tmp_path: Path) -> None:
    """Its jobs end with it, and go on elsewhere."""
    job = submit(store, count(150, 0.1))
    with runner(running, store, postgres_url, tmp_path):
        gets_on(store, job)
        first = process_of(job)
        running.nodes[0].find("raylet/raylet").kill()
        until(lambda: not first.is_running(), LONG)
        running.mend()
        done = ended(store, job, LONG)
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2)


def test_head_killed_while_a_job_runs(running: Cluster, store: Store, postgres_url: str, tmp_path: Path) -> None:
    """A job that is unknown is not lost: it gets through. The next one waits for another head, and is not counted."""
    job = submit(store, count(200, 0.1))
    with runner(running, store, postgres_url, tmp_path) as executor:
        gets_on(store, job)
        handle = handle_of(store)
        running.head.kill()
        until(lambda: executor.probe(handle).state is State.UNKNOWN, LONG)
        done = ended(store, job, LONG)
        assert (done.state, done.attempt) == (JobState.SUCCEEDED, 1)
        waiting = submit(store, count(2))
        running.mend()
        last = ended(store, waiting, LONG)
        assert (last.state, last.lost) == (JobState.SUCCEEDED, 0)
        assert executor.probe(handle).state in (State.UNKNOWN, State.ENDED)  # the new head has never heard of it


def test_orphan_of_a_dead_head_is_fenced(running: Cluster, store: Store, postgres_url: str, tmp_path: Path) -> None:
    job = submit(store, count(3000, 0.1))
    with rays(running, store, tmp_path, patience=600.0) as create:
        executor = create()
        claimed = store.claim("somebody")
        assert claimed
        lease = claimed[1]
        told = environment(postgres_url, tmp_path, models=tmp_path)
        handle = executor.submit(Task(lease.job, lease.attempt, lease.worker, told))
        store.attach(lease, handle)
        gets_on(store, job)
        orphan = process_of(job)
        running.head.kill()
        until(lambda: executor.probe(handle).state is State.UNKNOWN, LONG)
        gets_on(store, job, 30)  # it goes on without a head
        store.reclaim(store.leases()[0], "others have it")
        before = store.get("me", job.id)
        with pytest.raises(LeaseLost):
            store.succeed(lease, pb.JobResult())
        until(lambda: not orphan.is_running(), 30)  # it has read that its lease is gone
    after = store.get("me", job.id)
    assert (after.state, after.last_sequence, after.checkpoint) == (
        JobState.QUEUED,
        before.last_sequence,
        before.checkpoint,
    )


def test_silent_head(running: Cluster, store: Store, postgres_url: str, tmp_path: Path) -> None:
    """It does not hold up the runner: jobs keep their leases, and get through."""
    job = submit(store, count(150, 0.1))
    with runner(running, store, postgres_url, tmp_path) as executor:
        gets_on(store, job)
        handle = handle_of(store)
        frozen = [each for each in running.head.all() if each.status() != psutil.STATUS_ZOMBIE]
        for each in frozen:
            each.send_signal(signal.SIGSTOP)
        try:
            until(lambda: executor.probe(handle).state is State.UNKNOWN, LONG)
            beats = store.leases()[0].beat
            until(lambda: not store.leases() or store.leases()[0].beat > beats + 5, LONG)
            done = ended(store, job, LONG)
        finally:
            for each in frozen:
                each.send_signal(signal.SIGCONT)
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 1)


def test_open_cluster_is_refused(tmp_path: Path, store: Store, ray_token: Path) -> None:
    with cluster(None) as unprotected, rays(unprotected, store, tmp_path) as create:
        executor = create()
        with pytest.raises(FailedPrecondition, match="CVE-2023-48022"):
            executor.connect()
