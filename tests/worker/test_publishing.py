"""The end of a fine-tune while the model server is away: waited for, never claimed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from ouzel.errors import InvalidArgument
from ouzel.models.store import Entry, ModelStore
from ouzel.torchserve import publication
from ouzel.torchserve.publication import PublicationFailed, Server, ServerUnreachable
from ouzel.worker.kinds import publishing
from ouzel.worker.kinds.context import JobContext, JobInterrupted
from ouzel.worker.processes.job_process import failure_of
from ouzel_protos.local import SERVING
from ouzel_protos.v1 import job_pb2 as pb

SERVER = Server("http://127.0.0.1:1", "http://127.0.0.1:1", Path("nowhere"))


@dataclass
class FakeWork:
    servers: list[Server | None]  # what is found at each look; the last one again and again
    serving_expected: bool = True
    logs: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    looks: int = 0
    entries: list[str] = field(default_factory=list)
    known: Any = None  # agents

    @property
    def environment(self) -> Any:
        return SimpleNamespace(agents=lambda: self.known)

    def record(self, kind: str, facts: Mapping[str, Any]) -> None:
        self.entries.append(f"{kind} {facts['version']}")

    @property
    def serving(self) -> Server | None:
        return self.servers.pop(0) if len(self.servers) > 1 else self.servers[0]

    def check_lease(self) -> None:
        self.looks += 1

    def log(self, message: str, level: int = 0) -> None:
        self.logs.append(message)

    @contextmanager
    def keepalive(self, phase: str) -> Iterator[None]:
        self.phases.append(phase)
        yield

    def stop_within(self, seconds: float) -> bool:
        return self.stop.is_set()


@dataclass
class FakeEntry:
    name: str = "tuned"
    version: str = "3"
    digest: str = "sha256:d"


@dataclass
class FakeStore:
    withdrawn: list[str] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)

    def withdraw_unchosen(self, file: FakeEntry) -> bool:
        self.withdrawn.append(file.version)
        return True

    def promote(self, name: str, version: str) -> None:
        self.promoted.append(version)

    def of(self, name: str) -> tuple[FakeEntry, ...]:
        return (FakeEntry(name),)

    def default_of(self, files: tuple[FakeEntry, ...]) -> FakeEntry:
        return files[0]

    def file(self, reference: str) -> FakeEntry:
        name, _, version = reference.partition("@")
        return FakeEntry(name, version)


def serve(work: FakeWork, store: FakeStore, *, promote: Callable[[], bool] = lambda: False) -> bool:
    entry = cast(Entry, FakeEntry())
    return publishing.serve(cast(JobContext, work), cast(ModelStore, store), entry, base="base@1", promote=promote)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What loading does at each try, by what is put in here: raises errors, else succeeds."""
    planned: list[Any] = []

    def load(*args: object, **more: object) -> None:
        if planned and (error := planned.pop(0)) is not None:
            raise error

    monkeypatch.setattr(publication, "_load", load)
    monkeypatch.setattr(publication, "versions", lambda *args: [])
    monkeypatch.setattr(publication.pool, "answers_for", lambda *args: False)
    return planned


def test_a_server_that_comes_back_gets_the_model(tries: list[Any]) -> None:
    tries += [ServerUnreachable("TorchServe does not answer"), None]
    work, store = FakeWork([None, None, SERVER]), FakeStore()
    assert serve(work, store)
    assert work.phases == ["waiting for the model server"] * 3
    assert len(work.logs) == 1  # said once
    assert "waiting up to 600 s" in work.logs[0]
    assert work.looks == 4  # others may have taken the job meanwhile
    assert store.withdrawn == []


def test_one_that_stays_away_fails_the_job_and_keeps_the_model(
    tries: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "PATIENCE", 0.0)
    store = FakeStore()
    with pytest.raises(PublicationFailed, match=r"tuned 3 is kept in the model store, untried") as caught:
        serve(FakeWork([None]), store, promote=lambda: True)
    assert failure_of(caught.value).error.failure_class == pb.JobError.INFRASTRUCTURE  # which is tried again
    assert (store.withdrawn, store.promoted) == ([], [])


def test_a_model_that_was_tried_and_failed_goes(tries: list[Any]) -> None:
    tries.append(PublicationFailed("tuned 3 does not load: boom"))
    work, store = FakeWork([SERVER]), FakeStore()
    with pytest.raises(PublicationFailed, match="boom"):
        serve(work, store)
    assert (store.withdrawn, work.phases) == (["3"], [])
    tries.append(InvalidArgument("not an archive"))
    with pytest.raises(InvalidArgument):
        serve(work, store)
    assert store.withdrawn == ["3", "3"]


def test_who_waits_can_be_stopped(tries: list[Any]) -> None:
    work = FakeWork([None])
    work.stop.set()
    with pytest.raises(JobInterrupted):
        serve(work, FakeStore())


def test_without_a_server_nothing_is_claimed(tries: list[Any]) -> None:
    work, store = FakeWork([None], serving_expected=False), FakeStore()
    assert not serve(work, store, promote=lambda: True)
    assert store.promoted == ["3"]
    assert work.entries == ["publication 3", "promotion 3"]
    assert "untried" in work.logs[0]


def test_whether_to_promote_is_asked_when_the_server_is_there(
    tries: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it was waited for, another version may have become the default."""
    monkeypatch.setattr(publication, "_promote", Mock(side_effect=AssertionError))
    asked: list[int] = []
    work = FakeWork([None, SERVER])

    def promote() -> bool:
        asked.append(work.looks)
        return False

    assert serve(work, FakeStore(), promote=promote)
    assert asked == [2]


def test_where_a_server_is_meant_to_be(tmp_path: Path) -> None:
    here = {"state": str(tmp_path)}
    assert not publication.expected(None)
    assert not publication.expected(here)  # a worker alone
    assert publication.expected(here | {"named": "yes"})
    assert publication.expected({"rest": "http://a", "management": "http://b", "key_file": "c"})
    (tmp_path / SERVING).write_text("{}")  # of one that was killed
    assert publication.expected(here)
    (tmp_path / SERVING).unlink()
    (tmp_path / "options.json").write_text("{}")  # of one that is being started again
    assert publication.expected(here)
