"""`ouzel finetune` and `ouzel tuned`, against the fake server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from ouzel_client._cli.main import main
from ouzel_client.testing import FakeServer, finetune

DATASET = "0123456789abcdef" * 4
BASIC = ("finetune", DATASET, "--base", "m", "--name", "pets")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    with FakeServer() as running:
        monkeypatch.setenv("OUZEL_WORKER", running.target)
        yield running


def ouzel(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, words)


def said(*words: str) -> str:
    result = ouzel(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def printed(*words: str) -> Any:
    return json.loads(said(*words, "--json"))


def only_spec(server: FakeServer) -> Any:
    (job,) = server.jobs._jobs.values()
    return job.message.spec.finetune


def test_the_outcome(server: FakeServer) -> None:
    last = said(*BASIC).splitlines()[-1]
    assert last.startswith("pets version 1: 90.0 % of the held-out images are right (95 %: 80.0 to 95.0)")
    assert last.endswith("; it is the default")
    last = said(*BASIC, "--promote", "never").splitlines()[-1]
    assert last.endswith("; it is not the default, `ouzel models --worker promote pets@2` makes it that")
    assert server.jobs.streams == 2  # the job is watched; its pictures stay where they are


def test_what_is_sent(server: FakeServer) -> None:
    settings = ("--set", "epochs=7", "--set", "learning_rate=1e-4", "--set", "flip=false")
    more = ("--recipe", "fine_tune", "--promote", "always", "--seed", "9", "--image-size", "64")
    output = printed(*BASIC, *settings, *more, "--max-training-seconds", "90")
    assert (output["kind"], output["state"], output["files"]) == ("finetune", "SUCCEEDED", [])
    assert (output["summary"]["model"], output["summary"]["accuracy"]) == ("pets", 0.9)
    spec = only_spec(server)
    assert (spec.base, spec.dataset, spec.name, spec.recipe) == ("m", DATASET, "pets", "fine_tune")
    assert (spec.seed, spec.max_training_seconds, spec.image_size, spec.promote) == (9, 90, 64, spec.ALWAYS)
    assert (spec.parameters["epochs"].integer, spec.parameters["learning_rate"].number) == (7, 1e-4)
    assert (spec.parameters["flip"].WhichOneof("value"), spec.parameters["flip"].flag) == ("flag", False)


def test_artifacts(server: FakeServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines = said(*BASIC, "--out", str(out)).splitlines()
    files = {str(path) for path in out.rglob("*") if path.is_file()}
    assert set(lines[:-1]) == files
    assert str(out / "compared" / "00-before.png") in files


def test_detached(server: FakeServer) -> None:
    server.jobs.hold = True
    assert said(*BASIC, "--detach").strip() == "job-1"
    assert printed("jobs", "list", "--kind", "finetune")[0]["id"] == "job-1"
    assert printed(*BASIC, "--detach")["id"] == "job-2"


def test_check(server: FakeServer) -> None:
    assert said(*BASIC, "--check").splitlines() == ["16 images, usable: cat 8, dog 8"]
    output = printed(*BASIC, "--check")
    assert (output["usable"], output["classes"]) == (True, {"cat": 8, "dog": 8})
    assert not server.jobs._jobs


def test_a_check_that_finds_the_images_wanting(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = finetune.report
    refused = [{"path": "cat/x.png", "reason": "is cut off"}]
    report = {"usable": False, "problems": ["'dog' has 1 image"], "refused": refused, "of later versions": 1}
    monkeypatch.setattr(finetune, "report", lambda labels: {**whole(labels), **report})
    for words in (BASIC, (*BASIC, "--json")):
        result = ouzel(*words, "--check")
        assert result.exit_code == 1
        assert "'dog' has 1 image" in result.stdout
        assert "is cut off" in result.stdout


def test_the_address_of_a_data_set(server: FakeServer) -> None:
    said("finetune", "file:///data/pets", "--base", "m", "--name", "pets", "--detach")
    assert only_spec(server).dataset == "file:///data/pets"


@pytest.mark.parametrize(
    "words",
    [
        ("finetune", DATASET, "--base", "m"),
        ("finetune", DATASET, "--name", "pets"),
        (*BASIC, "--set", "flip"),
        (*BASIC, "--set", "flip=maybe"),
        (*BASIC, "--promote", "sometimes"),
        (*BASIC, "--seed", "-1"),
        ("tuned", "promote", "pets"),
        ("tuned", "delete", "pets", "--yes"),
        ("tuned", "delete", "pets@1", "--version", "2", "--yes"),
        ("tuned", "show", "pets@"),
    ],
)
def test_wrong_options(server: FakeServer, words: tuple[str, ...]) -> None:
    assert ouzel(*words).exit_code == 2
    assert not server.jobs._jobs


@pytest.mark.parametrize(
    "words",
    [
        ("finetune", DATASET[:-1], "--base", "m", "--name", "pets"),
        ("finetune", __file__, "--base", "m", "--name", "pets"),
        ("finetune", DATASET, "--base", "nothing", "--name", "pets"),
        ("finetune", DATASET, "--base", "m", "--name", "m"),
        (*BASIC, "--check", "--base", "nothing"),
        ("tuned", "show", "nothing"),
        ("tuned", "promote", "m", "--version", "1.0"),
        ("tuned", "delete", "m@1.0", "--yes"),
    ],
)
def test_errors_are_one_line(server: FakeServer, words: tuple[str, ...]) -> None:
    result = ouzel(*words)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("Error: ")
    assert not server.jobs._jobs


def test_the_gate(server: FakeServer) -> None:
    server.jobs.grounded = False
    margins = ("--accuracy-margin", "0.05", "--reliance-margin", "0.3", "--scene", "cat")
    lines = said(*BASIC, "--promote", "if_grounded", *margins).splitlines()
    assert "it is not the default" in lines[-2]
    assert lines[-1] == "Gate not passed: Pretended: backgrounds turn 9 of 10 predictions."
    spec = only_spec(server)
    assert (spec.promote, spec.accuracy_margin, spec.reliance_margin) == (spec.IF_GROUNDED, 0.05, 0.3)
    assert list(spec.scenes) == ["cat"]
    assert "held back by the gate" in said("tuned", "list", "pets")
    assert "1 (held back by the gate)" in said("tuned", "show", "pets@1")


def test_repair(server: FakeServer) -> None:
    said("finetune", "s3://bucket/pets", "--base", "m", "--name", "pets")
    lines = said("repair", "pets@1", DATASET, "--set", "per_class=40", "--layers", "all").splitlines()
    assert lines[-3].startswith("pets version 2: ")
    assert lines[-2] == "Gate passed: Pretended: backgrounds turn nothing."
    assert lines[-1].startswith("Repair: accuracy 100 % before, 100 % after; worst group 10 % before, 90 % after; ")
    spec = list(server.jobs._jobs.values())[-1].message.spec.finetune
    assert (spec.base, spec.recipe, spec.parameters["per_class"].integer) == ("pets@1", "debias_all", 40)
    assert printed("repair", "pets@1", DATASET)["summary"]["repair"]["after"]["verdict"] == "rests_on_object"
    for words in (("repair",), ("repair", "pets", "--layers", "first"), ("repair", "pets", "--masks", ".")):
        assert ouzel(*words).exit_code == 2
    assert ouzel("repair", "nothing").exit_code == 1


def test_like(server: FakeServer, tmp_path: Path) -> None:
    """Nothing need be said but whose run; whatever is said counts."""
    said("finetune", "s3://bucket/pets", "--base", "m", "--name", "pets", "--set", "epochs=3", "--image-size", "64")
    assert "pets version 2" in said("finetune", "--like", "pets@1")
    spec = list(server.jobs._jobs.values())[-1].message.spec.finetune
    assert (spec.dataset, spec.base, spec.name) == ("s3://bucket/pets", "m@1.0", "pets")
    assert (spec.image_size, spec.parameters["epochs"].number, spec.seed) == (64, 3, 0)
    said("finetune", DATASET, "--like", "pets@1", "--name", "cats", "--seed", "4", "--set", "flip=false")
    spec = list(server.jobs._jobs.values())[-1].message.spec.finetune
    assert (spec.dataset, spec.name, spec.seed, sorted(spec.parameters)) == (DATASET, "cats", 4, ["epochs", "flip"])
    result = ouzel("finetune", "--like", "dogs@1")
    assert (result.exit_code, "no model 'dogs@1'" in result.stderr) == (1, True)


def test_a_job_that_failed(server: FakeServer) -> None:
    server.jobs.fail = "dataset: is no good"
    result = ouzel(*BASIC)
    assert (result.exit_code, "dataset: is no good" in result.stderr) == (1, True)


def test_tuned(server: FakeServer) -> None:
    said(*BASIC)
    said(*BASIC, "--promote", "never")
    listed = printed("tuned", "list")
    assert [(each["name"], each["version"]) for each in listed] == [("m", "1.0"), ("pets", "1"), ("pets", "2")]
    assert listed[2]["lineage"]["dataset"] == DATASET
    table = [line.split() for line in said("tuned", "list", "pets").splitlines()]
    assert table[1] == ["pets", "1", "yes", "yes", "2", "90.0", "%", "m@1.0"]
    assert said("tuned", "promote", "pets@2") == "pets: version 2 is the default\n"
    assert printed("tuned", "promote", "pets", "--version", "2")["is_default"] is True
    assert printed("tuned", "show", "pets")["version"] == "2"
    assert printed("tuned", "show", "pets@1")["layers"] == {"conv": [4, 8, 8]}
    shown = [line.split(maxsplit=1) for line in said("tuned", "show", "pets").splitlines() if line]
    for fact in (["labels", "2: cat, dog"], ["lineage.dataset", DATASET], ["conv", "4 x 8 x 8"]):
        assert fact in shown
    assert [each["version"] for each in printed("tuned", "list", "pets@2")] == ["2"]
    assert said("tuned", "delete", "pets", "--version", "1", "--yes") == "pets@1 is deleted\n"
    assert printed("tuned", "delete", "pets@2", "-y") == {"deleted": "pets@2"}
    assert printed("tuned", "list", "pets") == []
    assert said("tuned", "list", "pets") == "No model pets.\n"
