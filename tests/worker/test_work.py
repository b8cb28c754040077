"""What a job's process tells the store."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ouzel.worker.artifacts import patience
from ouzel.worker.artifacts.folder import FolderArtifacts
from ouzel.worker.artifacts.protocol import StorageAway
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.environment import JobEnvironment
from ouzel.worker.kinds import context as module
from ouzel.worker.kinds import training_data
from ouzel.worker.kinds.context import JobContext
from ouzel.worker.store.job import Lease
from ouzel.worker.store.protocol import LeaseLost
from ouzel_protos.v1 import job_pb2 as pb
from support.datasets import stored, two_colours
from support.jobs import until


class Told:
    """A store that remembers what it is told, of a job that somebody else has from the third time on."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.messages: list[str] = []
        self.checkpoints: list[str] = []

    def emit(self, lease: Lease, events: list[Any]) -> None:
        self.messages += [each.log.message for each in events if each.HasField("log")]
        self.phases += [each.progress.phase for each in events if each.HasField("progress")]
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


def test_jobs_and_their_data_sets_find_buckets(bucket: str, tmp_path: Path) -> None:
    """What the runner tells a job's process is enough for it, with a cache of its own machine."""
    environment = JobEnvironment("", bucket, tmp_path, f"{bucket}-sets", local=tmp_path / "fetched")
    assert JobEnvironment.from_dict(json.loads(json.dumps(environment.to_dict()))) == environment
    folders = JobEnvironment("", tmp_path / "a", tmp_path, tmp_path / "b")
    assert JobEnvironment.from_dict(json.loads(json.dumps(folders.to_dict()))) == folders
    uploaded = Datasets(f"{bucket}-sets", cache=tmp_path / "service")
    files = two_colours(3)
    made = stored(uploaded, "me", files)
    told = Told()
    lease = Lease("job-1", 1, "worker")
    context = JobContext(told, lease, environment, owner="me", stop=threading.Event())  # type: ignore[arg-type]
    told.phases = []
    learnt = training_data.examples(made.id, context)
    assert {each.name: each.read() for each in learnt} == files
    context.save(b"state")
    assert environment.open_artifacts().get(told.checkpoints[0]) == b"job-1\nstate"


def test_a_job_goes_on_while_its_storage_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not without a checkpoint that is needed, for which it waits."""
    told = Told()
    context = work(told, tmp_path)
    monkeypatch.setattr(patience, "_PAUSE", 0.01)
    answers: list[Exception | None] = []

    def put(self: FolderArtifacts, content: bytes) -> tuple[str, int]:
        if answers and (error := answers.pop(0)) is not None:
            raise error
        return hashlib.sha256(content).hexdigest(), len(content)

    monkeypatch.setattr(FolderArtifacts, "put", put)
    answers[:] = [StorageAway("away")]
    context.save(b"a")
    assert not told.checkpoints
    assert told.messages == ["the storage is away: no checkpoint is stored until it is back"]
    answers[:] = [StorageAway("away"), StorageAway("away"), None]
    context.save(b"b", needed=True)
    answers[:] = [StorageAway("away"), None]
    context.save(b"c", [pb.JobEvent()])
    assert len(told.checkpoints) == 2
    context.stop.set()
    answers[:] = [StorageAway("away")]
    with pytest.raises(StorageAway):
        context.save(b"d", needed=True)
    assert len(told.checkpoints) == 2
