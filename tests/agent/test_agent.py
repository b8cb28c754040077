"""What an agent makes of a store, with a fake TorchServe that says what it was asked for."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

from ouzel.agent import node as nodes
from ouzel.agent.agent import run_once
from ouzel.agent.fetched import Fetched
from ouzel.agent.options import AgentOptions
from ouzel.buckets import Prefix, StorageAway, StorageRefused
from ouzel.cli.serving_agent import agents as agents_command
from ouzel.cli.serving_agent import serving_agent
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.model_files import ModelFiles
from ouzel.registry import mirror
from ouzel.registry.folder import FolderRegistry
from ouzel.registry.opening import mirrored, open_registry
from ouzel.registry.registry import Told
from ouzel.registry.reports import AgentReport, Serves, VersionReport, parse_reports
from ouzel.torchserve import retention
from ouzel.torchserve.management import Settings
from support.agents import FakeNode
from support.jobs import until
from support.toys import add_toy, digest, write_toy


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_FRESH", 0.0)
    monkeypatch.setattr("ouzel.torchserve.management._LOG", 0.0)  # s for what the fake never writes


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    return tmp_path / "shared" if request.param == "folder" else request.getfixturevalue("bucket")


@pytest.fixture
def store(place: str | Path, tmp_path: Path) -> ModelFiles:
    """As a worker sees it."""
    return ModelFiles(*mirrored(place, tmp_path / "worker"))


@pytest.fixture
def node(place: str | Path, tmp_path: Path) -> Iterator[FakeNode]:
    made = FakeNode(place, tmp_path, "node-1")
    yield made
    made.torchserve.stop()


def local(node: FakeNode) -> list[str]:
    return sorted(path.name for path in node.options.store.iterdir() if not path.name.startswith("."))


def states(report: AgentReport, name: str = "toy") -> dict[str, str]:
    return {version: str(each.state) for version, each in report.versions.get(name, {}).items()}


def test_it_follows(store: ModelFiles, node: FakeNode) -> None:
    add_toy(store, "1", 1)
    with node.agent() as agent:
        agent.round()
        assert node.serves() == ("1", ["1"])
        assert (agent.report.note, states(agent.report), agent.report.defaults) == ("", {"1": "served"}, {"toy": "1"})
        assert local(node) == ["toy.default", "toy@1.mar"]
        add_toy(store, "2", 2)
        agent.round()
        assert node.serves() == ("1", ["1", "2"])  # a new version is tried, and not the default
        calls = len(node.torchserve.calls)
        agent.round()
        assert len(node.torchserve.calls) == calls  # nothing is to be done
        store.promote("toy", "2")
        agent.round()
        assert node.serves() == ("2", ["1", "2"])
        assert ModelFiles(node.options.store).default("toy") == "2"
        add_toy(store, "3", 3)
        agent.round()
        assert node.serves() == ("2", ["2", "3"])  # of each model two stay loaded
        assert local(node) == ["toy.default", "toy@2.mar", "toy@3.mar"]
        store.remove("toy@3")
        agent.round()
        assert node.serves() == ("2", ["1", "2"])  # the newest beside the default
        for version in ("1", "2"):
            store.remove(f"toy@{version}")
        agent.round()
        assert node.serves() == ("", [])
        assert (local(node), agent.report.versions) == ([], {})


def test_an_older_version_is_loaded_for_those_who_wait_for_it(store: ModelFiles, node: FakeNode) -> None:
    for number in (1, 2, 3):
        add_toy(store, str(number), number)
    store.promote("toy", "3")
    with node.agent() as agent:
        agent.round()
        assert node.serves() == ("3", ["2", "3"])
        store.want("toy", "1")
        agent.round()
        assert node.serves() == ("3", ["1", "2", "3"])
        store.promote("toy", "1")
        agent.round()
        assert node.serves() == ("1", ["1", "3"])


def test_as_many_versions_as_torchserve_was_started_for(store: ModelFiles, node: FakeNode) -> None:
    for number in range(1, 6):
        add_toy(store, str(number), number)
    run = next(node.options.state.glob("run-*"))
    retention.record(run / "keys.json", 4, Settings())
    with node.agent() as agent:
        agent.round()
        assert node.serves() == ("1", ["1", "3", "4", "5"])


def test_a_pool_answers_for_all(store: ModelFiles, place: str | Path, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        add_toy(store, str(number), number)
    add_toy(store, "1", 9, name="other", gate=False)
    node = FakeNode(place, tmp_path, "pooled", pool=True)
    node.torchserve.broken[digest(2)] = "boom"
    try:
        with node.agent() as agent:
            agent.round()
            assert states(agent.report) == {"1": "served", "2": "failed", "3": "served"}
            assert node.torchserve.models == {}
            assert local(node) == ["other@1.mar", "toy.default", "toy@1.mar", "toy@3.mar"]
            assert states(agent.report, "other") == {"1": "served"}  # by its number: it has no default
            assert agent.report.defaults == {"toy": "1"}
    finally:
        node.torchserve.stop()


def test_what_does_not_load_is_told_and_harms_nothing(
    store: ModelFiles, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        add_toy(store, str(number), number)
    node.torchserve.broken[digest(2)] = "CUDA out of memory on this node"
    with node.agent() as agent:
        agent.round()
        assert node.serves() == ("1", ["1"])
        assert states(agent.report) == {"1": "served", "2": "failed"}
        assert agent.report.errors == {"toy@2": agent.report.versions["toy"]["2"].error}
        assert "toy 2 does not load: CUDA out of memory on this node" in agent.report.errors["toy@2"]
        assert local(node) == ["toy.default", "toy@1.mar"]  # else TorchServe would not start again
        store.promote("toy", "2")
        agent.round()
        assert node.serves() == ("1", ["1"])
        assert agent.report.defaults == {"toy": "1"}
        assert agent.report.note == "toy 2, the default, cannot be served: 1 still is"
        calls = len(node.torchserve.calls)
        agent.round()
        assert len(node.torchserve.calls) == calls  # not again at once
        monkeypatch.setattr(nodes, "_FIRST_PAUSE", 0.0)
        node.torchserve.broken.clear()
        node.torchserve.stop()
        node.torchserve.start()  # another TorchServe may be able to
        for key, each in agent._node._tries.items():
            agent._node._tries[key] = nodes.Try(each.sha256, each.error)  # the time for it has come
        agent.round()
        assert node.serves() == ("2", ["1", "2"])
        assert agent.report.note == ""


def test_a_node_without_its_default_serves_no_other_one(store: ModelFiles, node: FakeNode) -> None:
    for number in (1, 2):
        add_toy(store, str(number), number)
    store.promote("toy", "2")
    node.torchserve.broken[digest(2)] = "boom"
    with node.agent() as agent:
        agent.round()
        assert node.serves() == ("", [])
        assert agent.report.note == "toy 2, the default, cannot be served here, and no other is"
        assert local(node) == []


def test_a_removed_default_is_not_served_on(store: ModelFiles, node: FakeNode) -> None:
    """Although the new one cannot be served here."""
    for number in (1, 2):
        add_toy(store, str(number), number)
    node.torchserve.broken[digest(2)] = "boom"
    with node.agent() as agent:
        agent.round()
        store.promote("toy", "2")
        store.remove("toy@1")
        agent.round()
        assert node.serves() == ("", [])


def test_a_node_that_was_off_catches_up(store: ModelFiles, node: FakeNode) -> None:
    for number in (1, 2):
        add_toy(store, str(number), number)
    with node.agent() as agent:
        agent.round()
    assert node.serves() == ("1", ["1", "2"])
    node.torchserve.stop()
    store.promote("toy", "2")
    store.remove("toy@1")
    add_toy(store, "3", 3)
    with node.agent() as agent:
        agent.round()
        assert (agent.report.serving, agent.report.note) == (False, "TorchServe does not run")
        # It may be starting, so nothing is removed; and what was not tried here does not come.
        assert local(node) == ["toy.default", "toy@1.mar", "toy@2.mar"]
        assert ModelFiles(node.options.store).default("toy") == "2"
    assert run_once(node.options) == 1
    assert local(node) == ["toy.default", "toy@2.mar"]
    with node.agent() as agent:
        node.torchserve.start()
        agent.round()
        assert node.serves() == ("2", ["2", "3"])
        assert states(agent.report) == {"2": "served", "3": "served"}
        node.torchserve.stop()
        node.torchserve.start()  # with nothing
        agent.round()
        assert node.serves() == ("2", ["2", "3"])


def test_what_torchserve_has_lost_is_loaded_again(
    store: ModelFiles, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ouzel.agent.agent._LOOK", 0.0)
    add_toy(store, "1", 1)
    with node.agent() as agent:
        agent.round()
        node.torchserve.models.clear()
        agent.round()
        assert node.serves() == ("1", ["1"])


def test_another_archive_of_the_same_version(store: ModelFiles, place: str | Path, node: FakeNode) -> None:
    if isinstance(place, Path):
        place.mkdir()
    with node.agent() as agent:
        for seed in (1, 2):
            store.add("plain", "1", lambda path, s=seed: write_toy(path, "1", s), plain=True)
            agent.round()
            assert node.torchserve.models == {"plain": {"1": digest(seed)}}
            assert ModelFiles(node.options.store).file("plain").digest == digest(seed)


def test_a_damaged_archive_in_the_bucket(bucket: str, tmp_path: Path) -> None:
    store = ModelFiles(*mirrored(bucket, tmp_path / "worker"))
    for number in (1, 2):
        add_toy(store, str(number), number)
    key = open_registry(bucket).record("toy").find("2").key
    prefix = Prefix(bucket, "test")
    whole = bytes(prefix.api.get(prefix.store, key).bytes())
    prefix.api.put(prefix.store, key, whole[:-1] + b"?")
    node = FakeNode(bucket, tmp_path, "node-1")
    try:
        with node.agent() as agent:
            agent.round()
            assert node.serves() == ("1", ["1"])
            assert "damaged in s3://" in agent.report.errors["toy@2"]
            assert local(node) == ["toy.default", "toy@1.mar"]
            prefix.api.put(prefix.store, "names/toy.json", b"{}")
            agent.round()
            assert node.serves() == ("1", ["1"])  # what is served stays
            assert "the record of the model 'toy' is damaged" in agent.report.note
    finally:
        node.torchserve.stop()


def test_a_damaged_copy_on_the_node(store: ModelFiles, node: FakeNode) -> None:
    add_toy(store, "1", 1)
    with node.agent() as agent:
        agent.round()
    path = node.options.store / "toy@1.mar"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with node.agent() as agent:
        agent.round()
        assert path.read_bytes() == store.find("toy").read_bytes()
        assert states(agent.report) == {"1": "served"}


def test_an_operators_folder_is_not_emptied(store: ModelFiles, node: FakeNode, tmp_path: Path) -> None:
    add_toy(store, "1", 1)
    node.options.store.mkdir(parents=True)
    write_toy(node.options.store / "mine.mar", "1", 1)
    with pytest.raises(FailedPrecondition, match=r"mine\.mar did not come from"), node.agent():
        pass
    assert local(node) == ["mine.mar"]
    (node.options.store / "mine.mar").unlink()
    with node.agent() as agent:
        agent.round()
        with pytest.raises(FailedPrecondition, match="another agent has"), node.agent():
            pass
    elsewhere = Fetched(open_registry(tmp_path / "other"), node.options.store)
    with pytest.raises(FailedPrecondition, match="holds models of"), elsewhere.claimed():
        pass


def test_options(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="is the store that all machines share"):
        AgentOptions(tmp_path, tmp_path)
    with pytest.raises(InvalidArgument, match="from: 'gs://b' is not a folder or s3"):
        AgentOptions("gs://b", tmp_path)
    with pytest.raises(InvalidArgument, match=r"node: 'A/B' is not 1 to 63"):
        AgentOptions("s3://b", tmp_path, node="A/B")
    with pytest.raises(InvalidArgument, match="serving_management, serving_key_file: give URLs"):
        AgentOptions("s3://b", tmp_path, rest="http://a")
    with pytest.raises(InvalidArgument, match=r"interval: .*60"):
        AgentOptions("s3://b", tmp_path, interval=61)


def test_reports_that_cannot_be_read_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    report = AgentReport("a", "1", 1.0, True, "", {"m": "1"}, {"m": {"1": VersionReport(Serves.SERVED, "x")}}, 5.0)
    told = {"a": Told(report.to_json(), 5.0), "b": Told(report.to_json(), 5.0), "c": Told(b"{", 5.0)}
    told["d"] = Told(json.dumps({"form": 1, "node": "d"}).encode(), 5.0)
    assert parse_reports(told) == (report,)
    assert [record.args[0] for record in caplog.records] == ["b", "c", "d"]


def test_a_folder_that_is_not_mounted_takes_nothing_away(tmp_path: Path) -> None:
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    store = ModelFiles(shared)
    add_toy(store, "1", 1)
    node = FakeNode(shared, tmp_path, "node-1")
    with node.agent() as agent:
        agent.round()
        shared.rename(elsewhere)
        agent.round()
        assert "is not there" in agent.report.note
        shared.mkdir()  # where it is mounted
        agent.round()
        assert "may not be mounted" in agent.report.note
        assert (node.serves(), local(node)) == (("1", ["1"]), ["toy.default", "toy@1.mar"])
        shared.rmdir()
        elsewhere.rename(shared)
        store.remove("toy@1")
        agent.round()
        assert (node.serves(), local(node), agent.report.note) == (("", []), [], "")
    node.torchserve.stop()


@pytest.mark.parametrize("upgraded", [False, True])
def test_an_agent_that_is_started_where_nothing_is_mounted(tmp_path: Path, upgraded: bool) -> None:
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    add_toy(ModelFiles(shared), "1", 1)
    node = FakeNode(shared, tmp_path, "node-1")
    with node.agent() as agent:
        agent.round()
    if upgraded:  # from an agent that remembered no store
        (node.options.store / ".agent" / "identity").unlink()
    shared.rename(elsewhere)

    def stays(words: str) -> None:
        for _ in range(2):
            with node.agent() as agent:
                agent.round()
                assert words in agent.report.note
        with pytest.raises(StorageAway, match=words):
            run_once(node.options)
        assert (node.serves(), local(node)) == (("1", ["1"]), ["toy.default", "toy@1.mar"])

    stays("is not there")
    shared.mkdir()
    stays("may not be mounted")
    with node.running():  # what it tells lies there now
        pass
    stays("may not be mounted")
    if not upgraded:
        add_toy(ModelFiles(shared), "1", 2)
        stays("is not the model store that the models here are of")
        with other_node(shared, tmp_path).agent() as other:
            other.round()
        stays("is another model store that the models here are of")
    shutil.rmtree(shared)
    elsewhere.rename(shared)
    ModelFiles(shared).remove("toy@1")
    if upgraded:
        stays("is meant to be empty")
        return
    with node.agent() as agent:
        agent.round()
        assert (node.serves(), local(node), agent.report.note) == (("", []), [], "")
    node.torchserve.stop()


def other_node(place: Path, folder: Path) -> FakeNode:
    made = FakeNode(place, folder, "node-2")
    made.torchserve.stop()
    return made


def test_it_goes_away_between_two_looks_of_one_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    store = ModelFiles(shared)
    for number in (1, 2):
        add_toy(store, str(number), number)
    node = FakeNode(shared, tmp_path, "node-1")
    try:
        with node.agent() as agent:
            agent.round()
            add_toy(store, "3", 3)  # there is something to be looked at
            names = FolderRegistry.names

            def unmounted(registry: FolderRegistry) -> Mapping[str, str]:
                found = names(registry)
                shared.rename(tmp_path / "elsewhere")
                shared.mkdir()
                return found

            with monkeypatch.context() as patch:
                patch.setattr(FolderRegistry, "names", unmounted)
                agent.round()
            assert "may not be mounted" in agent.report.note
            assert node.serves() == ("1", ["1", "2"])
    finally:
        node.torchserve.stop()


@pytest.mark.parametrize("damage", [b"", b"\n", b"\xff\xfe", b"0123"])
def test_a_damaged_identity_is_not_guessed(store: ModelFiles, place: str | Path, node: FakeNode, damage: bytes) -> None:
    """Neither that of the store nor the one that the agent remembers."""
    add_toy(store, "1", 1)

    def damaged() -> None:
        if isinstance(place, Path):
            (place / ".agents" / "identity").write_bytes(damage)
        else:
            prefix = Prefix(place, "test")
            prefix.api.put(prefix.store, "identity", damage)

    with node.agent() as agent:
        agent.round()
        remembered = node.options.store / ".agent" / "identity"
        good = remembered.read_bytes()
        add_toy(store, "2", 2)
        remembered.write_bytes(damage)
        agent.round()
        assert f"{remembered} is damaged" in agent.report.note
        assert node.serves() == ("1", ["1"])
        remembered.write_bytes(good)
        damaged()
        agent.round()
        assert "identity is damaged" in agent.report.note
        assert node.serves() == ("1", ["1"])
        remembered.unlink()
        agent.round()
        assert "identity is damaged" in agent.report.note
        assert (node.serves(), remembered.exists()) == (("1", ["1"]), False)
    with pytest.raises(StorageAway, match="identity is damaged"):
        run_once(node.options)


def test_a_store_that_may_only_be_read_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets its identity from an agent that may write to it."""
    shared = tmp_path / "shared"
    add_toy(ModelFiles(shared), "1", 1)
    node = FakeNode(shared, tmp_path, "node-1")
    try:
        with node.agent() as agent:
            with monkeypatch.context() as patch:  # the tests may run as root, whom no mode stops
                patch.setattr("ouzel.registry.folder.written", _refused)
                agent.round()
            assert (node.serves(), agent.report.note) == (("1", ["1"]), "")
            assert not (node.options.store / ".agent" / "identity").exists()
            agent.round()
            assert (node.options.store / ".agent" / "identity").exists()
    finally:
        node.torchserve.stop()


def _refused(place: Path, **_more: object) -> NoReturn:
    raise OSError(errno.EROFS, "Read-only file system", str(place))


def test_a_bucket_that_was_emptied_is_not_followed(bucket: str, tmp_path: Path) -> None:
    """Models that were removed one by one leave records; a bucket without any is another one, or was restored."""
    add_toy(ModelFiles(*mirrored(bucket, tmp_path / "worker")), "1", 1)
    node = FakeNode(bucket, tmp_path, "node-1")
    prefix = Prefix(bucket, "test")
    try:
        with node.agent() as agent:
            agent.round()
        prefix.api.delete(prefix.store, [each["path"] for group in prefix.api.list(prefix.store) for each in group])
        with node.agent() as agent:
            agent.round()
            assert f"{bucket} is not the model store that the models here are of" in agent.report.note
            assert node.serves() == ("1", ["1"])
            add_toy(ModelFiles(*mirrored(bucket, tmp_path / "another")), "7", 7)
            agent.round()
            assert node.serves() == ("1", ["1"])
            (node.options.store / ".agent" / "identity").unlink()  # as the note says
            agent.round()
            assert (node.serves(), agent.report.note) == (("7", ["7"]), "")
    finally:
        node.torchserve.stop()


def test_it_refuses_to_start_where_waiting_does_not_help(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_toy(ModelFiles(*mirrored(bucket, tmp_path / "worker")), "1", 1)
    node = FakeNode(bucket, tmp_path, "node-1")
    try:
        with node.agent() as agent:
            agent.round()
        for words in ([], ["--once"]):
            flags = ["--store", str(tmp_path / "other"), "--state", str(tmp_path / "state"), *words]
            result = CliRunner().invoke(serving_agent, ["--from", "s3://ouzel-none/models", *flags])
            assert result.exit_code == 1
            assert "Error: s3://ouzel-none/models cannot be used: there is no bucket 'ouzel-none'" in result.output
        result = CliRunner().invoke(agents_command, ["--store", "s3://ouzel-none/models"])
        assert (result.exit_code, "there is no bucket 'ouzel-none'" in result.output) == (1, True)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-key")
        with node.agent() as agent:  # one whose keys are changed while it runs
            agent.round()
            assert "are refused for the bucket" in agent.report.note
            assert node.serves() == ("1", ["1"])
        with pytest.raises(StorageRefused), node.running():
            pass
    finally:
        node.torchserve.stop()


def test_a_mount_that_fails_at_the_start_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, names, failed = tmp_path / "shared", FolderRegistry.names, list[str]()
    add_toy(ModelFiles(shared), "1", 1)
    node = FakeNode(shared, tmp_path, "node-1")

    def stale(registry: FolderRegistry) -> Mapping[str, str]:
        if not failed:
            failed.append(registry.where)
            raise OSError(errno.ESTALE, "Stale file handle", registry.where)
        return names(registry)

    monkeypatch.setattr(FolderRegistry, "names", stale)
    try:
        with node.running():
            until(lambda: node.serves() == ("1", ["1"]))
        assert failed == [str(shared)]
    finally:
        node.torchserve.stop()


def test_the_command_says_that_there_is_no_store(tmp_path: Path) -> None:
    result = CliRunner().invoke(agents_command, ["--store", str(tmp_path / "mistyped")])
    assert result.exit_code == 1
    assert "mistyped is not there" in result.output


def test_the_command_shows_them(place: str | Path, store: ModelFiles, node: FakeNode) -> None:
    def command(*words: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(agents_command, ["--store", str(place), *words])
        return result.exit_code, result.stdout, result.stderr

    add_toy(store, "1", 1)
    assert command()[:2] == (0, f"No agent has told anything in {place}.\n")
    node.torchserve.broken[digest(1)] = "boom"
    with node.agent() as agent:
        agent.round()
        open_registry(place).report("node-1", agent.report.to_json())
        code, out, err = command()
        assert code == 4
        assert "node-1" in out
        assert "toy@1" in err
        assert "boom" in err
        (told,) = json.loads(command("--json")[1])
        assert (told["node"], told["serving"]) == ("node-1", True)
        assert told["models"]["toy"]["versions"]["1"]["state"] == "failed"
