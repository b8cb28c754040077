"""Jobs in real processes, supervised, on both stores."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from ouzel.worker.artifacts.folder import FolderArtifacts
from ouzel.worker.runner.supervisor import Timing
from ouzel.worker.store.job import State
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import Store
from ouzel.worker.store.retry_policy import Retries
from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import QUICK, count, ended, one_store, runner, states, submit, until
from support.stub_kinds.maximize import Fault

ALL = ["QUEUED", "RUNNING", "PUBLISHING", "SUCCEEDED"]


def processes(job: str) -> list[psutil.Process]:
    """Those of the job that live."""
    return [
        each
        for each in psutil.process_iter(["cmdline"])
        if job in (each.info["cmdline"] or []) and each.status() != psutil.STATUS_ZOMBIE
    ]


def test_job_runs_and_publishes(store: Store, url: str, tmp_path: Path) -> None:
    job = submit(store, count(5))
    with runner(store, url, tmp_path):
        done = ended(store, job)
    assert done.state is State.SUCCEEDED
    assert states(store, job) == ALL
    assert dict(done.result.summary) == {"count": 5, "from": 0}
    (artifact,) = store.artifacts("me", job.id)
    assert FolderArtifacts(tmp_path / "artifacts").get(artifact.sha256) == b"m counted to 5"
    assert (done.progress.step, done.progress.steps) == (5, 5)
    assert not processes(job.id)
    assert len(list((tmp_path / "artifacts").glob("??/*"))) == 2  # it, and the last checkpoint


@one_store
def test_slots_bound_how_many_run(store: Store, url: str, tmp_path: Path) -> None:
    jobs = [submit(store, count(3, 0.1)) for _ in range(5)]
    most = 0
    with runner(store, url, tmp_path, slots=2) as running:
        while any(store.get("me", job.id).state is not State.SUCCEEDED for job in jobs):
            most = max(most, running.running)
    assert most == 2


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (Fault.REFUSED, pb.JobError.USER),
        (Fault.ALWAYS_MEMORY, pb.JobError.RESOURCE),
        (Fault.ERROR, pb.JobError.INFRASTRUCTURE),
        (Fault.KILLED, pb.JobError.INFRASTRUCTURE),
    ],
)
def test_failures(url: str, tmp_path: Path, fault: Fault, failure: int) -> None:
    """Each of its class; what is not the owner's fault is told without what is inside."""
    with closing(open_store(url, retries=Retries(lost=2))) as strict:
        job = submit(strict, count(4, fault=fault))
        with runner(strict, url, tmp_path, checkpoint_seconds=60.0):
            done = ended(strict, job)
    assert done.state is State.FAILED
    assert done.error.failure_class == failure
    assert "secret" not in done.error.message
    assert done.attempt == (1 if fault is Fault.REFUSED else 2 if fault is Fault.ALWAYS_MEMORY else 3)
    assert bool(done.error.error_id) == (fault is Fault.ERROR)
    assert done.error.field == ("targets" if fault is Fault.REFUSED else "")


def test_out_of_memory_is_tried_again_with_half(store: Store, url: str, tmp_path: Path) -> None:
    job = submit(store, count(4, fault=Fault.MEMORY))
    with runner(store, url, tmp_path):
        done = ended(store, job)
    assert (done.state, done.attempt, done.batch_scale) == (State.SUCCEEDED, 2, 0.5)


def test_cancel(store: Store, url: str, tmp_path: Path) -> None:
    job = submit(store, count(1000, 0.05))
    with runner(store, url, tmp_path) as running:
        until(lambda: store.get("me", job.id).progress.step > 0)
        assert store.cancel("me", job.id).state is State.CANCELLING
        running.nudge()
        assert ended(store, job, 5).state is State.CANCELLED
        until(lambda: not processes(job.id), 5)
        assert store.cancel("me", job.id).state is State.CANCELLED


@one_store
def test_cancel_of_a_job_that_does_not_listen(store: Store, url: str, tmp_path: Path) -> None:
    job = submit(store, count(1000, 0.05, fault=Fault.DEAF))
    with runner(store, url, tmp_path) as running:
        until(lambda: store.get("me", job.id).progress.step > 0)
        store.cancel("me", job.id)
        running.nudge()
        assert ended(store, job, 10).state is State.CANCELLED
        assert not processes(job.id)


@one_store
def test_pause_frees_the_slot_and_resume_goes_on(store: Store, url: str, tmp_path: Path) -> None:
    long, short = submit(store, count(60, 0.05)), submit(store, count(2))
    with runner(store, url, tmp_path) as running:
        until(lambda: store.get("me", long.id).progress.step > 3)
        store.pause("me", long.id)
        running.nudge()
        until(lambda: store.get("me", long.id).state is State.PAUSED)
        reached = store.get("me", long.id).progress.step
        assert ended(store, short).state is State.SUCCEEDED
        store.resume("me", long.id)
        running.nudge()
        done = ended(store, long)
    assert done.state is State.SUCCEEDED
    assert dict(done.result.summary)["from"] >= reached


@one_store
def test_stop_puts_jobs_back(store: Store, url: str, tmp_path: Path) -> None:
    """SIGTERM of the worker: a checkpoint, the queue, and the next worker goes on from there."""
    job = submit(store, count(60, 0.05))
    with runner(store, url, tmp_path):
        until(lambda: store.get("me", job.id).progress.step > 3)
    assert store.get("me", job.id).state is State.QUEUED
    assert not processes(job.id)
    with runner(store, url, tmp_path):
        done = ended(store, job)
    assert dict(done.result.summary)["from"] > 3


def test_killed_process_is_replaced_and_goes_on(store: Store, url: str, tmp_path: Path) -> None:
    job = submit(store, count(60, 0.05))
    with runner(store, url, tmp_path):
        until(lambda: store.get("me", job.id).progress.step > 3)
        processes(job.id)[0].kill()
        done = ended(store, job)
    assert (done.state, done.attempt) == (State.SUCCEEDED, 2)
    assert dict(done.result.summary)["from"] >= 1


def test_timeout(store: Store, url: str, tmp_path: Path) -> None:
    job = submit(store, count(1000, 0.05), timeout=0.5)
    with runner(store, url, tmp_path):
        done = ended(store, job)
    assert done.error.failure_class == pb.JobError.TIMEOUT
    assert "0.5 s" in done.error.message


@one_store
def test_watchdog_ends_a_process_that_hangs(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = replace(QUICK, timing=Timing(beat=0.1, watchdog=1.5))
    with closing(open_store(url, retries=Retries(lost=1))) as strict:
        job = submit(strict, count(4, fault=Fault.HANG))
        with runner(strict, url, tmp_path, options, checkpoint_seconds=60.0):
            done = ended(strict, job)
    assert (done.state, done.attempt) == (State.FAILED, 2)
    assert "no progress" in done.error.message
    assert caplog.text.count(f"{job.id}: no progress for 1.5 s; its process is ended") == 2
