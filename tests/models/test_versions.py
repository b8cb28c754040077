"""Versions of tuned models: published once, by one owner, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import zipfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ouzel import models
from ouzel.cli.models import models as commands
from ouzel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from ouzel.models import archive
from ouzel.models.card import Card
from ouzel.models.store import ModelStore

ARCH = "timm:test_resnet"
LABELS = tuple(f"digit {n}" for n in range(10))


def network(seed: int = 0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return models.build(ARCH, num_classes=10)


def tuned(owner: str = "ann", seed: int = 0, **lineage: object):
    """What a job hands over for publication."""

    def make(version: str):
        card = Card(
            name="", version="", arch=ARCH, labels=LABELS, preprocessing=models.default_preprocessing(ARCH),
            lineage={"owner": owner, **lineage},
        )  # fmt: skip
        return dataclasses.replace(card, name="tuned", version=version), network(seed).state_dict()

    return make


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def names(store: ModelStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def test_written_from_memory_like_from_a_file(tiny_archive: Path, tiny_weights: Path, tmp_path: Path) -> None:
    card, _, state = archive.read(tiny_archive)
    path = archive.write(dataclasses.replace(card, digest="", lineage=None), state, tmp_path / "tiny.mar")
    assert path.read_bytes() == tiny_archive.read_bytes()
    with pytest.raises(AlreadyExists, match="there is a model archive"):
        archive.write(card, state, path, replace=False)
    state["fc.bias"][0] = float("nan")
    with pytest.raises(InvalidArgument, match=r"fc\.bias holds values that are not finite"):
        archive.write(card, state, tmp_path / "other.mar")
    del state["fc.bias"]
    with pytest.raises(InvalidArgument, match=r"1 missing \(fc\.bias\)"):
        archive.write(card, state, tmp_path / "other.mar")
    assert [each.name for each in tmp_path.iterdir()] == ["tiny.mar"]


def test_lineage_is_on_the_card(tiny_archive: Path, tmp_path: Path) -> None:
    card, values, state = archive.read(tiny_archive)
    assert card.lineage is None
    assert "lineage" not in values
    lineage = {"job": "j", "metrics": {"accuracy": 0.5}, "libraries": ["torch 2"]}
    path = archive.write(dataclasses.replace(card, lineage=lineage), state, tmp_path / "a.mar")
    assert archive.read_card(path)[0].lineage == lineage
    assert models.load(path).card["lineage"] == lineage
    for wrong, message in (
        ({"x": "y" * 2**16}, "more than 65536"),
        ({"x": float("nan")}, "not JSON"),
        ({"x": object()}, "not JSON"),
        ([], "not an object"),
    ):
        with pytest.raises(InvalidArgument, match=f"lineage: .*{message}"):
            archive.write(dataclasses.replace(card, lineage=wrong), state, tmp_path / "b.mar")
    with zipfile.ZipFile(path) as held, zipfile.ZipFile(tmp_path / "c.mar", "w") as changed:
        for member in held.namelist():
            content = held.read(member)
            if member == "model.json":
                content = json.dumps(json.loads(content) | {"lineage": 3}).encode()
            changed.writestr(member, content)
    with pytest.raises(FailedPrecondition, match="lineage: 3 is not an object"):
        archive.read_card(tmp_path / "c.mar")


def test_versions_and_the_default(store: ModelStore) -> None:
    for number in range(1, 12):
        entry = store.publish("tuned", tuned(seed=number, base="tiny"), f"job {number}")
        assert (entry.name, entry.version, entry.is_default) == ("tuned", str(number), number == 1)
    assert [entry.version for entry in store.versions("tuned")] == [str(number) for number in range(1, 12)]
    assert entry.lineage == {"owner": "ann", "base": "tiny", "job": "job 11"}
    assert store.find("tuned") == store.folder / "tuned@1.mar"
    assert models.load(store.find("tuned@10")).version == "10"
    store.promote("tuned", "10")
    assert store.default("tuned") == "10"
    assert store.find("tuned") == store.find("tuned@10")
    assert [entry.version for entry in store.list() if entry.is_default] == ["10"]
    assert (store.folder / "tuned.default").read_text() == "10\n"
    store.remove("tuned@10")
    assert store.default("tuned") == "1"
    assert not (store.folder / "tuned.default").exists()
    with pytest.raises(NotFound, match=r"version: no version '10' of 'tuned', which has 1, 2, .*, 11"):
        store.find("tuned@10")
    with pytest.raises(NotFound, match="no version '10'"):
        store.promote("tuned", "10")
    with pytest.raises(FailedPrecondition, match="has several versions; say which: tuned@1, tuned@2"):
        store.remove("tuned")
    with pytest.raises(FailedPrecondition, match="1 is the default of 'tuned'"):
        store.withdraw("tuned", "1", unless_default=True)
    for number in range(2, 10):
        store.withdraw("tuned", str(number), unless_default=True)
    store.withdraw("tuned", "1")
    assert store.default("tuned") == "11"
    store.withdraw("tuned", "11", unless_default=True)
    assert names(store) == []


def test_an_operators_model_beside_versions(store: ModelStore, tiny_weights: Path) -> None:
    archive.create("tiny", ARCH, tiny_weights, LABELS, store.folder, version="3")
    assert (store.default("tiny"), store.find("tiny"), store.find("tiny@3")) == ("3", *2 * [store.folder / "tiny.mar"])
    with pytest.raises(AlreadyExists, match="name: there is a model 'tiny' that is the operator's"):
        store.publish("tiny", tuned(), "job")
    store.publish("tuned", tuned(), "job")
    with pytest.raises(AlreadyExists, match=r"'tuned' is that of a tuned model"):
        archive.create("tuned", ARCH, tiny_weights, LABELS, store.folder)
    with pytest.raises(AlreadyExists, match="taken by somebody else's model"):
        store.publish("tuned", tuned(owner="bob"), "other")
    (store.folder / "tuned@2.mar").write_bytes(b"junk")
    with pytest.raises(AlreadyExists, match="that is damaged"):
        store.publish("tuned", tuned(), "third")
    assert [entry.error != "" for entry in store.versions("tuned")] == [False, True]


def _listed(store: ModelStore) -> list[str]:
    result = CliRunner().invoke(commands, ["list", "--store", str(store.folder)])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()[1:]


def test_what_a_gate_holds_back_is_no_default_until_somebody_promotes_it(store: ModelStore) -> None:
    failed = {"gate": {"passed": False}}
    store.publish("tuned", tuned(**failed), "first")
    assert [entry.is_default for entry in store.list()] == [False]
    assert store.defaults() == {}
    assert store.default_of(store.of("tuned")) is None
    assert store.kept(store.of("tuned"), 2) == ()
    with pytest.raises(NotFound, match=r"no version of 'tuned' is the default.*tuned@1"):
        store.find("tuned")
    assert store.find("tuned@1").exists()
    store.publish("tuned", tuned(**failed), "second")
    with pytest.raises(NotFound, match="tuned@1, tuned@2"):
        store.default("tuned")
    store.publish("tuned", tuned(gate={"passed": True}), "third")
    assert store.default("tuned") == "3"
    assert [file.version for file in store.kept(store.of("tuned"), 2)] == ["3", "2"]
    assert [line.split()[2] for line in _listed(store)] == ["held", "held", "yes"]
    store.promote("tuned", "2")  # that overrules the gate
    assert [line.split()[2] == "held" for line in _listed(store)] == [True, False, False]
    assert store.default("tuned") == "2"
    store.withdraw("tuned", "2")
    assert store.default("tuned") == "3"
    assert not (store.folder / "tuned.default").exists()
    store.withdraw("tuned", "3")
    assert store.defaults() == {}
    store.withdraw("tuned", "1", unless_default=True)
    assert names(store) == []


def test_a_job_publishes_once(store: ModelStore) -> None:
    first = store.publish("tuned", tuned(), "job")
    before = store.find("tuned").stat()
    again = store.publish("tuned", lambda _: pytest.fail("it is there"), "job")
    assert (again, store.find("tuned").stat()) == (first, before)
    assert store.publish("tuned", tuned(seed=1), "another").version == "2"


def test_what_does_not_work_leaves_nothing(store: ModelStore) -> None:
    def make(version: str):
        card, state = tuned()(version)
        return card, {**state, "fc.bias": state["fc.bias"] / 0}

    with pytest.raises(InvalidArgument, match="not finite"):
        store.publish("tuned", make, "job")
    assert names(store) == []
    with pytest.raises(InvalidArgument, match="name: "):
        store.publish("../tuned", tuned(), "job")


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FailedPrecondition, match="cannot be written: "):
        ModelStore(tmp_path / "file" / "store").publish("tuned", tuned(), "job")


# Each process has imported what takes long; the one that they are forked from runs nothing else.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["timm", "torchvision", "ouzel.cli.models", "ouzel.models.store"])


def _publish(folder: Path, jobs: list[str], start, versions) -> None:
    torch.set_num_threads(1)
    start.wait()
    versions.put([(job, ModelStore(folder).publish("tuned", tuned(), job).version) for job in jobs])


def test_two_processes_at_once(store: ModelStore) -> None:
    start, versions = PROCESSES.Barrier(2), PROCESSES.Queue()
    jobs = ["a1", "a2", "both", "a3"], ["b1", "both", "b2", "b3"]
    processes = [PROCESSES.Process(target=_publish, args=(store.folder, each, start, versions)) for each in jobs]
    for process in processes:
        process.start()
    told = versions.get(timeout=120) + versions.get(timeout=120)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(map(int, dict(told).values())) == list(range(1, 8))
    assert len(set(told)) == 7  # both were told the same of the job that both published
    assert {entry.lineage["job"]: entry.version for entry in store.versions("tuned")} == dict(told)


def _killed(folder: Path, step: str) -> None:
    """Publish, and die right before or after a step."""
    import pathlib

    from ouzel import durable_files

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), 9)

    if step == "chmod":
        pathlib.Path.chmod = die
    else:
        setattr(durable_files, step, die)
    ModelStore(folder).publish("tuned", tuned(), "job")


@pytest.mark.parametrize(("step", "versions"), [("chmod", 0), ("_place", 0), ("sync_folder", 1)])
def test_killed_between_two_steps(step: str, versions: int, store: ModelStore) -> None:
    process = PROCESSES.Process(target=_killed, args=(store.folder, step))
    process.start()
    process.join(120)
    assert process.exitcode == -9
    assert len(store.list()) == versions
    assert all(not entry.error for entry in store.list())
    assert store.publish("tuned", tuned(), "job").version == "1"  # the next attempt of the job
    assert store.publish("tuned", tuned(), "next").version == "2"
    assert names(store) == [".tuned.lock", "tuned@1.mar", "tuned@2.mar"]
    assert models.load(store.find("tuned")).version == "1"
