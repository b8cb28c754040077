"""What a job's process tells the store."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ouzel.worker.artifacts.folder import FolderArtifacts
from ouzel.worker.environment import JobEnvironment
from ouzel.worker.kinds import context as module
from ouzel.worker.kinds.context import JobContext
from ouzel.worker.store.job import Lease
from ouzel.worker.store.protocol import LeaseLost
from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import until


class Told:
    """A store that remembers what it is told, of a job that somebody else has from the third time on."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.checkpoints: list[str] = []

    def emit(self, lease: Lease, events: list[Any]) -> None:
        self.phases += [each.progress.phase for each in events]
        if len(self.phases) > 2:
            raise LeaseLost

    def checkpoint(self, lease: Lease, digest: str, events: Sequence[pb.JobEvent] = ()) -> None:
        self.checkpoints.append(digest)


def work(store: Any, folder: Path, checkpoint: bytes | None = None, job: str = "job-1") -> JobContext:
    lease = Lease(job, 1, "worker")
    told = JobEnvironment("", folder, folder, folder)
    return JobContext(store, lease, told, checkpoint=checkpoint, stop=threading.Event())


def test_what_takes_long_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SIGN_SECONDS", 0.01)
    told = Told()
    with work(told, tmp_path).keepalive("looking"):
        until(lambda: len(told.phases) > 4)  # also when it must not any more
    assert set(told.phases) == {"looking"}
    before = len(told.phases)
    assert not [each for each in threading.enumerate() if each.name == "keepalive"]
    assert len(told.phases) == before


def test_one_checkpoint_of_each_job_is_kept(tmp_path: Path) -> None:
    told, artifacts = Told(), FolderArtifacts(tmp_path)
    first, other = work(told, tmp_path), work(told, tmp_path, job="job-2")
    other.save(b"a")
    first.save(b"a")
    first.save(b"b")
    again = work(told, tmp_path, checkpoint=b"b")  # the next attempt
    again.save(b"b")
    again.save(b"c")
    held = {path.name for path in tmp_path.glob("??/*")}
    assert held == {told.checkpoints[0], told.checkpoints[-1]}
    assert [artifacts.get(digest) for digest in sorted(held)]
