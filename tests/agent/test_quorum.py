"""A version is served when a quorum of agents has tried it, and only then it becomes the default."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from ouzel.agent import agent as agents
from ouzel.bucket_objects import Asked
from ouzel.buckets import StorageAway
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel.model_files import ModelFiles
from ouzel.registry import mirror
from ouzel.registry.opening import mirrored, open_registry
from ouzel.torchserve import changes, publication, quorum
from ouzel.torchserve.errors import OutcomeUnknown, PublicationFailed, ServerUnreachable
from ouzel.torchserve.quorum import Agents, promote_on_agents, publish_to_agents, served_by_quorum
from ouzel.worker.environment import JobEnvironment
from ouzel.worker.kinds import publishing
from ouzel.worker.processes.job_process import failure_of
from ouzel_protos.v1 import job_pb2 as pb
from support.agents import FakeNode
from support.jobs import until
from support.seaweed import Seaweed, seaweed
from support.toys import add_toy, digest


class Site:
    """A shared store with version 1 of `toy`, and two nodes that serve it."""

    def __init__(self, place: str | Path, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.store = ModelFiles(*mirrored(place, folder / "worker"))
        add_toy(self.store, "1", 1)
        self.nodes = [FakeNode(place, folder, f"node-{number}") for number in (1, 2)]
        self.entries: list[str] = []

    def record(self, kind: str, facts: Mapping[str, Any]) -> None:
        self.entries.append(
            " ".join([kind, facts["version"], *(end for end in ("undone", "unknown") if facts.get(end))])
        )

    def agents(self, need: int = 2) -> Agents:
        return Agents(open_registry(self.place), need)

    def publish(self, version: str, *, need: int = 2, promote: bool = False, seconds: float = 30.0) -> bool:
        """As a job does: again and again until it is decided."""
        known, answers = self.agents(need), list[bool]()

        def decided() -> bool:
            try:
                answers.append(
                    publish_to_agents(
                        known,
                        self.store,
                        "toy",
                        version,
                        promote=lambda: promote,
                        withdraw_failed=True,
                        record=self.record,
                    )
                )
            except ServerUnreachable:
                return False
            return True

        until(decided, seconds)
        return answers[0]

    def serve(self) -> list[tuple[str, list[str]]]:
        return [node.serves() for node in self.nodes]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_FRESH", 0.0)
    monkeypatch.setattr("ouzel.torchserve.management._LOG", 0.0)  # s for what the fake never writes
    monkeypatch.setattr(agents, "BEAT", 0.2)


@pytest.fixture(params=["folder", "bucket"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "shared" if request.param == "folder" else request.getfixturevalue("bucket"), tmp_path)
    yield made
    for node in made.nodes:
        node.torchserve.stop()


@pytest.fixture
def both(site: Site) -> Iterator[Site]:
    """With an agent on each node."""
    with ExitStack() as stack:
        for node in site.nodes:
            stack.enter_context(node.running())
        yield site


def test_published_on_both_and_promoted(both: Site) -> None:
    add_toy(both.store, "2", 2)
    assert both.publish("2")
    assert both.serve() == [("1", ["1", "2"])] * 2
    assert both.entries == ["publication 2"]
    assert both.publish("2", promote=True)
    assert both.entries == ["publication 2", "publication 2", "promotion 2"]
    assert both.store.default("toy") == "2"
    until(lambda: both.serve() == [("2", ["1", "2"])] * 2)
    registry = both.agents().registry
    until(lambda: all(told.defaults == {"toy": "2"} for told in both.agents().reports()))
    reports = both.agents().reports()
    now = max(each.seen for each in reports)
    assert served_by_quorum(reports, 2, now) == {("toy", "1"), ("toy", "2")}
    assert served_by_quorum(reports, 3, now) == served_by_quorum(reports, 2, now + 3600) == frozenset()
    assert registry.record("toy").wanted == ()


def test_versions_that_nobody_promotes_do_not_pile_up(both: Site) -> None:
    """Each was waited for, and none of them has to stay for that."""
    for number in range(2, 6):
        add_toy(both.store, str(number), number)
        assert both.publish(str(number))
    until(lambda: both.serve() == [("1", ["1", "5"])] * 2)


def test_an_older_version_is_loaded_before_it_is_promoted(both: Site) -> None:
    for number in (2, 3):
        add_toy(both.store, str(number), number)
        assert both.publish(str(number), promote=True)
    until(lambda: both.serve() == [("3", ["2", "3"])] * 2)
    promote_on_agents(both.agents(), both.store, "toy", "1", seconds=30, record=both.record)
    until(lambda: [default for default, _ in both.serve()] == ["1", "1"])
    with pytest.raises(NotFound, match="no version '9'"):
        promote_on_agents(both.agents(), both.store, "toy", "9", seconds=30)


def test_one_node_that_cannot_is_told_of_and_outvoted(both: Site) -> None:
    both.nodes[1].torchserve.broken[digest(2)] = "CUDA out of memory"
    add_toy(both.store, "2", 2)
    assert both.publish("2", need=1, promote=True)
    until(lambda: both.serve() == [("2", ["1", "2"]), ("1", ["1"])])
    known = both.agents()
    until(lambda: len((found := known.standing("toy", "2")).failed) == len(found.served) == 1)
    found = known.standing("toy", "2")
    assert found.served == ("node-1",)
    assert "toy 2 does not load: CUDA out of memory" in found.failed["node-2"]


def test_too_many_that_cannot_end_it(both: Site) -> None:
    both.nodes[1].torchserve.broken[digest(2)] = "CUDA out of memory"
    add_toy(both.store, "2", 2)
    with pytest.raises(PublicationFailed, match=r"toy 2 is to be served by 2 agents, and cannot: .*node-2: .*memory"):
        both.publish("2", promote=True)
    assert [file.version for file in both.store.of("toy")] == ["1"]  # withdrawn
    until(lambda: both.serve() == [("1", ["1"])] * 2)
    assert both.entries == []


def test_a_default_that_fails_later_is_not_withdrawn(both: Site) -> None:
    """Another attempt of the job that promoted it does not take it from callers."""
    add_toy(both.store, "2", 2)
    assert both.publish("2", promote=True)
    for node in both.nodes:
        node.torchserve.broken[digest(2)] = "boom"
        node.torchserve.stop()
        node.torchserve.start()
    with pytest.raises(PublicationFailed, match="boom"):
        both.publish("2", promote=True, seconds=60)
    assert both.store.default("toy") == "2"


def test_one_that_is_promoted_while_it_is_withdrawn_stays(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another machine, between the look at the record and its change."""
    one, other = (ModelFiles(*mirrored(bucket, tmp_path / each)) for each in ("one", "other"))
    for number in (1, 2):
        add_toy(one, str(number), number)
    other.promote("toy", "1")
    read, raced = Asked.tagged, list[str]()

    def stale(asked: Asked, key: str) -> tuple[bytes, str] | None:
        found = read(asked, key)
        if not raced:
            raced.append(key)
            other.promote("toy", "2")
        return found

    def fail(*_: object) -> None:
        monkeypatch.setattr(Asked, "tagged", stale)
        raise PublicationFailed("toy 2 cannot be served")

    entries: list[str] = []
    known = Agents(open_registry(bucket), 1)
    monkeypatch.setattr(known, "require", fail)
    with pytest.raises(PublicationFailed, match="cannot be served"):
        publish_to_agents(known, one, "toy", "2", withdraw_failed=True, record=lambda kind, facts: entries.append(kind))
    assert raced == ["names/toy.json"]
    assert (one.default("toy"), [file.version for file in one.of("toy")], entries) == ("2", ["1", "2"], [])


@pytest.mark.parametrize("arrived", [True, False])
def test_a_promotion_whose_answer_got_lost(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    monkeypatch.setattr(changes, "_SETTLING", 0.0)
    site = Site(bucket, tmp_path)
    add_toy(site.store, "2", 2)
    known = site.agents(1)
    monkeypatch.setattr(known, "require", lambda file: quorum.Standing(("node-1",), {}, (), ()))
    swap = Asked.swap

    def lost(asked: Asked, key: str, tag: str | None, content: bytes) -> str | None:
        if arrived:
            swap(asked, key, tag, content)
        raise StorageAway("the storage does not answer")

    def publish() -> bool:
        return publish_to_agents(
            known, site.store, "toy", "2", promote=lambda: True, withdraw_failed=True, record=site.record
        )

    try:
        with monkeypatch.context() as patch:
            patch.setattr(Asked, "swap", lost)
            if arrived:
                assert publish()
            else:
                with pytest.raises(OutcomeUnknown, match="whether it is the default now is not known"):
                    publish()
        assert site.store.default("toy") == ("2" if arrived else "1")
        assert site.entries == ["publication 2", "promotion 2", *([] if arrived else ["promotion 2 unknown"])]
        assert publish()  # the next attempt
        assert site.store.default("toy") == "2"
        assert site.entries[-2:] == ["publication 2", "promotion 2"]
    finally:
        for node in site.nodes:
            node.torchserve.stop()


def test_one_that_could_not_be_recorded_is_withdrawn(bucket: str, tmp_path: Path) -> None:
    store = ModelFiles(*mirrored(bucket, tmp_path))
    for number in (1, 2):
        add_toy(store, str(number), number)
    entries: list[str] = []

    def record(kind: str, facts: Mapping[str, Any]) -> None:
        if kind == "promotion":
            raise FailedPrecondition("the log is refused")
        entries.append(f"{kind} {facts.get('undone', '')}")

    with pytest.raises(FailedPrecondition):
        publication.publish_model(None, store, "toy", "2", promote=True, withdraw_failed=True, record=record)
    assert (entries, [file.version for file in store.of("toy")]) == (["publication ", "publication True"], ["1"])


def test_without_a_quorum_it_stays_undecided(site: Site) -> None:
    add_toy(site.store, "2", 2)
    known = site.agents()
    with site.nodes[0].running():
        until(lambda: known.standing("toy", "2").served == ("node-1",))
        with pytest.raises(ServerUnreachable, match=r"toy 2 is to be served by 2 agents: 1 serve it"):
            publish_to_agents(known, site.store, "toy", "2", promote=lambda: True, withdraw_failed=True)
        with pytest.raises(ServerUnreachable):
            promote_on_agents(site.agents(), site.store, "toy", "2", seconds=0.3)
        assert site.store.default("toy") == "1"
        with site.nodes[1].running():  # comes late, and completes it
            assert site.publish("2", promote=True)
    assert site.store.default("toy") == "2"


def test_what_a_dead_agent_has_told_does_not_count(site: Site) -> None:
    registry = open_registry(site.place)
    with site.nodes[0].running():
        until(lambda: "node-1" in registry.reports() and '"served"' in registry.reports()["node-1"].content.decode())
        left = registry.reports()["node-1"].content
    registry.report("node-1", left)  # as if it had been killed
    known = site.agents(1)
    for _ in range(3):
        found = known.standing("toy", "1")
        assert (found.served, found.silent) == ((), ("node-1",))


def test_who_is_silent_for_long_keeps_nobody_waiting(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three agents one is gone, one cannot, and two were to serve it."""
    registry = open_registry(site.place)
    with site.nodes[0].running():
        until(lambda: "node-1" in registry.reports())
        left = registry.reports()["node-1"].content
    registry.report("node-3", left.replace(b"node-1", b"node-3"))  # as if it had been killed
    site.nodes[1].torchserve.broken[digest(2)] = "boom"
    add_toy(site.store, "2", 2)
    with ExitStack() as stack:
        for node in site.nodes:
            stack.enter_context(node.running())
        known = site.agents()
        until(lambda: len((found := known.standing("toy", "2")).failed) == len(found.served) == 1)
        with pytest.raises(ServerUnreachable, match="nothing is heard of node-3"):
            publish_to_agents(known, site.store, "toy", "2")
        monkeypatch.setattr(quorum, "_SILENCE", 0.0)
        with pytest.raises(PublicationFailed, match=r"and cannot: .*boom"):
            publish_to_agents(known, site.store, "toy", "2")


def test_two_agents_of_one_name(site: Site, tmp_path: Path) -> None:
    other = FakeNode(site.place, tmp_path / "elsewhere", "node-1")
    try:
        with site.nodes[0].running():
            until(lambda: "node-1" in open_registry(site.place).reports())
            with pytest.raises(FailedPrecondition, match="another agent of the name 'node-1'"), other.running():
                pass
    finally:
        other.torchserve.stop()


def test_held_back_by_its_gate(both: Site) -> None:
    for number in (1, 2):
        add_toy(both.store, str(number), number + 10, name="gated", gate=False)
    known = both.agents()
    assert not publish_to_agents(known, both.store, "gated", "1", promote=lambda: False)

    def promoted() -> bool:
        try:
            return publish_to_agents(known, both.store, "gated", "1", promote=lambda: True)
        except ServerUnreachable:
            return False

    until(promoted)
    until(lambda: all(node.torchserve.defaults.get("gated") == "1" for node in both.nodes))


def _killed_at(place: str | Path, folder: Path, step: str) -> None:
    """A job's process that ends at a step of its publication."""
    store = ModelFiles(*mirrored(place, folder))
    add_toy(store, "2", 2)
    known = Agents(open_registry(place), 2)

    def record(kind: str, _facts: Mapping[str, Any]) -> None:
        if kind == step:
            os._exit(9)

    while True:
        try:
            publish_to_agents(known, store, "toy", "2", promote=lambda: True, withdraw_failed=True, record=record)
            os._exit(1)
        except ServerUnreachable:
            threading.Event().wait(0.1)


@pytest.mark.parametrize("step", ["publication", "promotion"])
def test_killed_between_publication_and_promotion(both: Site, step: str) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_killed_at, args=(both.place, both.folder / "w", step)
    )
    process.start()
    process.join(120)
    assert process.exitcode == 9
    assert both.store.default("toy") == "1"  # nothing half done
    assert both.publish("2", promote=True)  # the next attempt
    assert both.store.default("toy") == "2"
    assert [file.version for file in both.store.of("toy")] == ["1", "2"]
    assert both.entries == ["publication 2", "promotion 2"]


def test_a_bucket_that_is_away_for_a_while(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ouzel.bucket_objects._RETRIES", 0)
    with seaweed() as server:
        _found(server, monkeypatch)
        site = Site(f"s3://{server.make('models')}/m", tmp_path)
        node = site.nodes[0]
        try:
            with node.running():
                until(lambda: node.serves() == ("1", ["1"]))
                server.kill()
                path = node.options.state / "agent.json"
                until(lambda: "the store does not answer" in path.read_text(), 60)
                assert node.serves() == ("1", ["1"])  # what is served stays
                server.start()
                add_toy(site.store, "2", 2)
                assert site.publish("2", need=1, promote=True)
                until(lambda: node.serves() == ("2", ["1", "2"]))
        finally:
            for each in site.nodes:
                each.torchserve.stop()


def _found(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)


def test_a_quorum_is_at_least_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="serving_quorum"):
        Agents(open_registry(tmp_path), 0)


class Work:
    """A fake of what a job may ask and tell."""

    def __init__(self, site: Site, on_wait: Callable[[], None]) -> None:
        self.environment = JobEnvironment("", "", site.place, "", quorum=2, local=site.folder / "fetched")
        self.serving, self.serving_expected, self.record = None, False, site.record
        self.logs: list[str] = []
        self._on_wait = on_wait

    def check_lease(self) -> None:
        pass

    def log(self, message: str, level: int = 0) -> None:
        self.logs.append(message)

    @contextmanager
    def keepalive(self, phase: str) -> Iterator[None]:
        self._on_wait()
        yield

    def stop_within(self, seconds: float) -> bool:
        return threading.Event().wait(0.1)


def test_a_job_waits_for_the_agents(site: Site) -> None:
    add_toy(site.store, "2", 2)
    with ExitStack() as stack:
        waits = 0

        def come() -> None:
            nonlocal waits
            waits += 1
            if waits == 1:
                for node in site.nodes:
                    stack.enter_context(node.running())

        work = Work(site, come)
        entry = site.store.file("toy@2")
        assert publishing.serve(cast(Any, work), cast(Any, site.store), cast(Any, entry), base="", promote=lambda: True)
    assert site.store.default("toy") == "2"
    assert site.entries == ["publication 2", "promotion 2"]
    assert len(work.logs) == 1
    assert "waiting up to 600 s for the serving agents: toy 2 is to be served by 2 agents" in work.logs[0]


def test_a_job_publishes_no_version_of_another_one(site: Site) -> None:
    """Its own is deleted while it waits, and the number is used again."""
    add_toy(site.store, "2", 2)
    entry = site.store.file("toy@2")
    site.store.remove("toy@2")
    add_toy(site.store, "2", 3)
    with ExitStack() as stack:
        for node in site.nodes:
            stack.enter_context(node.running())
        with pytest.raises(NotFound, match="toy 2 was deleted"):
            publishing.serve(
                cast(Any, Work(site, lambda: None)),
                cast(Any, site.store),
                cast(Any, entry),
                base="",
                promote=lambda: True,
            )
    assert (site.store.default("toy"), site.store.file("toy@2").digest, site.entries) == ("1", digest(3), [])


def test_a_job_that_waits_in_vain_fails_as_infrastructure(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "PATIENCE", 0.0)
    add_toy(site.store, "2", 2)
    work = Work(site, lambda: None)
    entry = site.store.file("toy@2")
    with pytest.raises(PublicationFailed, match=r"toy 2 is kept in the model store$") as caught:
        publishing.serve(cast(Any, work), cast(Any, site.store), cast(Any, entry), base="", promote=lambda: True)
    assert failure_of(caught.value).error.failure_class == pb.JobError.INFRASTRUCTURE
    assert (site.store.default("toy"), site.entries) == ("1", [])
    assert [file.version for file in site.store.of("toy")] == ["1", "2"]
