"""Machines that stand still, clocks that jump, disks that are full or lie."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import apsw
import grpc
import psutil
import pytest

from ouzel.worker.processes import identity
from ouzel.worker.store.job import State
from ouzel.worker.store.protocol import Store
from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import QUICK, count, ended, one_store, runner, states, submit, until, worker
from support.stub_kinds.maximize import Fault


def halt(processes: Sequence[psutil.Process], url: str) -> None:
    """Stop them at a moment when none holds the lock of an SQLite file, which would be locked for everybody then."""
    for _ in range(200):
        for process in processes:
            process.suspend()
        if not url.startswith("sqlite://") or can_write(url.removeprefix("sqlite://")):
            return
        for process in processes:
            process.resume()
        time.sleep(0.03)
    raise AssertionError(f"{url} is locked all the time")


def can_write(file: str) -> bool:
    with closing(apsw.Connection(file)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE; ROLLBACK")
        except apsw.BusyError:
            return False
    return True


def test_late_commit_of_a_machine_that_stood_still(
    store: Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worker and job are stopped until another machine has taken the job over and done it; then they go on."""
    with ExitStack() as stack:
        first = stack.enter_context(worker(url, tmp_path / "state", artifacts=tmp_path / "artifacts"))
        created = first.create(count(10, 0.3))
        until(lambda: store.get("local", created.id).progress.step > 2)
        job = psutil.Process(int(store.leases()[0].handle.split("/")[1]))
        stopped = [psutil.Process(first.process.pid), *psutil.Process(first.process.pid).children(recursive=True)]
        assert job in stopped
        halt(stopped, url)
        try:
            monkeypatch.setattr(identity, "host", lambda: "elsewhere")
            with runner(store, url, tmp_path, replace(QUICK, lease=1.0)):
                done = ended(store, store.get("local", created.id), 60)
        finally:
            for process in stopped:
                process.resume()
        assert (done.state, done.attempt) == (State.SUCCEEDED, 2)
        until(lambda: not psutil.pid_exists(job.pid))
        time.sleep(0.5)  # in which the first worker could do harm
        # The second worker may have counted the last of its seconds since.
        assert replace(store.get("local", created.id), ran=done.ran) == done
        assert states(store, done).count("SUCCEEDED") == 1
        assert first.result(created.id).attempt == 2
        assert first.stop() == 0


@one_store
def test_a_worker_that_stands_still_loses_nothing(store: Store, url: str, tmp_path: Path) -> None:
    """Past its lease, but its job's process computes on: nobody takes it over."""
    with worker(url, tmp_path / "state", artifacts=tmp_path / "artifacts") as first:
        created = first.create(count(50, 0.1))
        until(lambda: store.get("local", created.id).progress.step > 2)
        process = psutil.Process(first.process.pid)
        halt([process], url)
        try:
            with runner(store, url, tmp_path, replace(QUICK, lease=0.5)):
                done = ended(store, store.get("local", created.id))
        finally:
            process.resume()
        assert (done.state, done.attempt) == (State.SUCCEEDED, 1)


@one_store
def test_the_clock_jumps(store: Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an hour, again and again, in the process of two runners: no job is taken for lost."""
    real, ticks = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * (next(ticks) % 3 - 1))
    job = submit(store, count(50, 0.1))
    with runner(store, url, tmp_path, slots=1), runner(store, url, tmp_path, slots=0):
        done = ended(store, job, 60)
    assert (done.state, done.attempt) == (State.SUCCEEDED, 1)


def test_no_room_for_an_artifact(store: Store, url: str, tmp_path: Path) -> None:
    job = submit(store, count(2, fault=Fault.FULL))
    with runner(store, url, tmp_path):
        done = ended(store, job)
        assert ended(store, submit(store, count(1))).state is State.SUCCEEDED
    assert (done.state, done.attempt) == (State.FAILED, 1)
    assert done.error.failure_class == pb.JobError.RESOURCE
    assert "full" in done.error.message
    assert not list((tmp_path / "artifacts" / "incoming").iterdir())
    assert not store.artifacts("me", job.id)


def test_an_artifact_that_is_damaged_later(url: str, tmp_path: Path) -> None:
    with worker(url, tmp_path, artifacts=tmp_path / "artifacts") as service:
        job = service.create(count(1)).id
        (artifact,) = service.result(job).result.artifacts
        path = tmp_path / "artifacts" / artifact.sha256[:2] / artifact.sha256
        path.write_bytes(b"n" + path.read_bytes()[1:])
        with pytest.raises(grpc.RpcError) as caught:
            list(service.call("DownloadArtifact", pb.DownloadArtifactRequest(id=job, name=artifact.name)))
        assert caught.value.code() is grpc.StatusCode.DATA_LOSS
        assert str(tmp_path) not in caught.value.details()


@one_store
def test_a_damaged_checkpoint_costs_no_more_than_the_work(store: Store, url: str, tmp_path: Path) -> None:
    job = submit(store, count(60, 0.05))
    with runner(store, url, tmp_path):
        until(lambda: store.get("me", job.id).progress.step > 3)
    digest = store.get("me", job.id).checkpoint
    (tmp_path / "artifacts" / digest[:2] / digest).write_bytes(b"{}")
    with runner(store, url, tmp_path):
        done = ended(store, job)
    assert dict(done.result.summary) == {"count": 60, "from": 0}
