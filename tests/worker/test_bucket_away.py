"""A real object store that is killed while it is written to, and while jobs run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from obstore.exceptions import GenericError

from ouzel.bucket_objects import Asked
from ouzel.buckets import Prefix, StorageRefused
from ouzel.errors import Unavailable
from ouzel.worker.artifacts.bucket import BucketArtifacts
from ouzel.worker.artifacts.protocol import StorageAway
from ouzel.worker.processes.job_process import failure_of
from ouzel.worker.store.job import State
from ouzel.worker.store.protocol import Store
from ouzel_protos.v1 import job_pb2 as pb
from support import seaweed as servers
from support.jobs import count, one_store, states, until, worker
from support.seaweed import Seaweed

PART = 8 * 2**20
BUCKET = "s3://ouzel-away/files"


@pytest.fixture(scope="module")
def mortal() -> Iterator[Seaweed]:
    """A server that tests kill and start again; it has a bucket."""
    with servers.seaweed() as server:
        server.make("ouzel-away")
        yield server


@pytest.fixture
def server(mortal: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Seaweed:
    for name, value in mortal.variables.items():
        monkeypatch.setenv(name, value)
    return mortal


def objects() -> list[str]:
    prefix = Prefix(BUCKET, "place")
    return [str(each["path"]) for group in prefix.api.list(prefix.store) for each in group]


class Killing:
    """obstore, which kills the server when it has read half of what it uploads."""

    def __init__(self, api: Any, server: Seaweed) -> None:
        self._api, self._server = api, server
        self.read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    def put(self, store: Any, path: str, file: Any, **more: Any) -> Any:
        half = file.seek(0, os.SEEK_END) / 2
        file.seek(0)
        outer = self

        class Halting:
            def read(self, size: int = -1) -> bytes:
                chunk: bytes = file.read(size)
                outer.read += len(chunk)
                if outer.read > half:
                    outer._server.kill()
                return chunk

            def seek(self, *position: int) -> int:
                return int(file.seek(*position))

        return self._api.put(store, path, Halting(), **more)


def test_killed_in_the_middle_of_an_upload(server: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the file can be seen afterwards; the next try stores it."""
    monkeypatch.setattr("ouzel.bucket_objects._RETRIES", 1)
    artifacts = BucketArtifacts(BUCKET, tmp_path)
    content = os.urandom(8 * PART)
    digest = hashlib.sha256(content).hexdigest()
    whole = artifacts._asked.api
    killing = Killing(whole, server)
    artifacts._asked.api = killing
    with pytest.raises(StorageAway, match="does not answer"):
        artifacts.put(iter([content]))
    assert killing.read > PART
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    server.start()
    artifacts._asked.api = whole
    assert artifacts.size(digest) is None
    assert not objects()
    assert artifacts.put(iter([content])) == (digest, len(content))
    assert artifacts.get(digest) == content
    artifacts.discard(digest)


@one_store
def test_killed_in_the_middle_of_a_job(server: Seaweed, store: Store, url: str, tmp_path: Path) -> None:
    """The job goes on without checkpoints, waits with its results, and publishes them once."""
    with worker(url, tmp_path / "state", "--checkpoint", "1", artifacts=BUCKET) as running:
        early = running.result(running.create(count(2)).id)
        (artifact,) = early.result.artifacts
        created = running.create(count(40, 0.1))
        until(lambda: bool(store.get("local", created.id).checkpoint))
        server.kill()
        with pytest.raises(grpc.RpcError) as told:
            list(download(running, early.id, artifact.name))
        assert told.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "storage of artifacts does not answer" in str(told.value.details())
        until(lambda: store.get("local", created.id).state is State.PUBLISHING, 60)
        logged = [each.log.message for each in store.events("local", created.id, 0, 1000) if each.HasField("log")]
        assert logged == ["the storage is away: no checkpoint is stored until it is back"]
        server.start()
        done = running.result(created.id)
        assert (done.state, done.attempt) == (pb.Job.SUCCEEDED, 1)
        job = store.get("local", created.id)
        assert states(store, job).count("SUCCEEDED") == 1
        (artifact,) = done.result.artifacts
        assert b"".join(download(running, created.id, artifact.name)) == b"m counted to 40"
        assert sum(artifact.sha256 in each for each in objects()) == 1
        assert running.stop() == 0


@one_store
def test_a_job_is_taken_up_again_from_its_checkpoint(server: Seaweed, store: Store, url: str, tmp_path: Path) -> None:
    """The worker stops, and another one with an empty cache goes on, which has to wait for the storage first."""
    with worker(url, tmp_path / "first", artifacts=BUCKET) as first:
        created = first.create(count(40, 0.1))
        until(lambda: store.get("local", created.id).progress.step > 4)
        assert first.stop() == 0
    saved = store.get("local", created.id)
    assert (saved.state, bool(saved.checkpoint)) == (State.QUEUED, True)
    with worker(url, tmp_path / "second", artifacts=BUCKET) as second:
        until(lambda: store.get("local", created.id).progress.step > saved.progress.step)
        assert second.stop() == 0
    steps = [each.progress.step for each in store.events("local", created.id, 0, 1000) if each.HasField("progress")]
    assert sorted(steps) == steps


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("flags", "secret", "words"),
    [
        (
            ["--artifacts", BUCKET],
            "not-the-key",
            r"s3://ouzel-away/files cannot be used: the keys .*ouzel-away.*\(403 S",
        ),
        (
            ["--uploads", "s3://ouzel-none/files"],
            "",
            "s3://ouzel-none/files cannot be used: there is no bucket 'ouzel-no",
        ),
        (["--store", "s3://ouzel-none/models"], "", "there is no bucket 'ouzel-none'"),
    ],
)
def test_a_worker_that_cannot_use_its_bucket_says_why_and_does_not_start(
    tmp_path: Path, flags: list[str], secret: str, words: str
) -> None:
    variables = {"AWS_SECRET_ACCESS_KEY": secret} if secret else {}
    with (
        pytest.raises(AssertionError, match=words) as told,
        worker(f"sqlite://{tmp_path / 'jobs.db'}", tmp_path / "state", *flags, "--no-fork", variables=variables),
    ):
        raise AssertionError("it has started")
    assert not [each for each in (secret, servers.SECRET) if each and each in str(told.value)]
    assert "Traceback" not in str(told.value)


@pytest.mark.usefixtures("server")
def test_what_no_waiting_helps_is_not_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers hear that they need not ask again, and not where it is."""
    missing = BucketArtifacts("s3://ouzel-none/files", tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    refused = BucketArtifacts(BUCKET, tmp_path)
    for artifacts, why in ((missing, "there is no bucket"), (refused, "403 InvalidAccessKeyId")):
        for call in (artifacts.total, lambda each=artifacts: each.get("0" * 64)):
            with pytest.raises(StorageRefused, match="storage of artifacts cannot be used; its operator can") as told:
                call()
            assert told.value.code == "INTERNAL"
            assert why in told.value.why
            failed = failure_of(told.value).error
            assert failed.failure_class == pb.JobError.INFRASTRUCTURE


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "call",
    [
        lambda asked: asked.get("a"),
        lambda asked: asked.tagged("a"),
        lambda asked: asked.size("a"),
        lambda asked: asked.part("a", 0, 1),
        lambda asked: asked.copy("a", "b"),
        lambda asked: asked.remove(["a"]),
    ],
)
def test_a_missing_bucket_is_no_missing_object(call: Callable[[Asked], object]) -> None:
    """A model or a checkpoint that is said to be gone would be lost for good."""
    with pytest.raises(StorageRefused) as told:
        call(Asked("s3://ouzel-none/files", "artifacts"))
    assert "there is no bucket 'ouzel-none'" in told.value.why
    with suppress(FileNotFoundError):
        assert call(Asked(BUCKET, "artifacts")) is None


def test_a_machine_without_keys_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = Prefix(BUCKET, "place")
    with pytest.raises(Unavailable, match="AWS_ACCESS_KEY_ID is not set"), prefix.translated("names"):
        raise GenericError("Error performing PUT http://169.254.169.254/latest/api/token - status code: 403 Forbidden")
    words = "status code: 301 Moved: <Error><Code>PermanentRedirect</Code></Error>"
    with pytest.raises(StorageRefused, match="another region; set AWS_REGION"), prefix.translated("names"):
        raise GenericError(words)


def download(running: Any, job: str, name: str) -> Iterator[bytes]:
    request = pb.DownloadArtifactRequest(id=job, name=name)
    for chunk in running.stub.DownloadArtifact(request, metadata=running.metadata, timeout=60.0):
        yield chunk.data
