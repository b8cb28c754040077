"""`ouzel models ...`"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from ouzel.cli.models import models as group
from ouzel_client import terminal


@pytest.fixture
def run(tmp_path):
    def invoke(*arguments: object, code: int = 0, input: str | None = None) -> Result:
        environment = {"OUZEL_MODEL_STORE": str(tmp_path / "store"), "OUZEL_STATE": str(tmp_path / "state")}
        result = CliRunner().invoke(group, [str(a) for a in arguments], env=environment, input=input)
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return invoke


@pytest.fixture
def add(run, tiny_weights, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"digit {n}" for n in range(10)))

    def invoke(*arguments: object, name: str = "tiny", code: int = 0) -> Result:
        given = ("--arch", "timm:test_resnet", "--weights", tiny_weights, "--labels", labels)
        return run("add", name, *given, *arguments, code=code)

    return invoke


def test_add_list_show_remove(run, add, tmp_path, tiny_archive, monkeypatch):
    assert "No models in" in run("list").stdout
    assert "timm:test_resnet, 10 classes" in add().stdout
    assert (tmp_path / "store" / "tiny.mar").read_bytes() == tiny_archive.read_bytes()
    row = run("list").stdout.splitlines()[1]
    assert row.split()[:4] == ["tiny", "1", "timm:test_resnet", "10"]
    shown = run("show", "tiny").stdout
    for text in ("digit 0, digit 1", "timm:test_resnet", "sha256:", "[160, 160]", "fc ", "Linear"):
        assert text in shown
    assert "--yes" in run("remove", "tiny", input="y\n", code=2).stderr  # nobody sits at a terminal
    monkeypatch.setattr(terminal, "can_ask", lambda: True)
    assert "Delete" in run("remove", "tiny", input="n\n", code=1).stderr
    assert "Removed tiny" in run("remove", "tiny", input="y\n").stdout
    assert not list((tmp_path / "store").iterdir())


def test_json(run, add, tmp_path):
    assert json.loads(run("list", "--json").stdout) == []
    added = json.loads(add("--json", "--version", "2.1").stdout)
    assert (added["path"], added["version"]) == (str(tmp_path / "store" / "tiny.mar"), "2.1")
    (entry,) = json.loads(run("list", "--json").stdout)
    assert entry == {name: value for name, value in added.items() if name != "path"}
    shown = json.loads(run("show", "tiny", "--json").stdout)
    assert (shown["digest"], shown["version"], len(shown["labels"])) == (entry["digest"], "2.1", 10)
    assert shown["layers"][-1] == {"name": "fc", "type": "Linear", "shape": [10]}
    norms = sum(layer["type"].startswith("BatchNorm") for layer in shown["layers"])
    assert shown["folding"] == {"folded": norms, "given_up": ""}
    assert json.loads(run("remove", "tiny", "--yes", "--json").stdout) == {"removed": "tiny"}


def test_the_verbs_that_the_worker_has_too(run, add):
    add("--version", "2")
    add(name="other")
    assert [each["name"] for each in json.loads(run("list", "tiny", "--json").stdout)] == ["tiny"]
    assert [each["name"] for each in json.loads(run("list", "tiny@2", "--json").stdout)] == ["tiny"]
    assert "No model tiny@3" in run("list", "tiny@3").stdout
    assert run("list").stdout.split()[:3] == ["model", "version", "architecture"]
    assert json.loads(run("show", "tiny", "--version", "2", "--json").stdout)["version"] == "2"
    assert "two versions" in run("delete", "tiny@2", "--version", "1", code=2).stderr
    assert json.loads(run("delete", "tiny", "--version", "2", "--yes", "--json").stdout) == {"deleted": "tiny@2"}
    assert run("delete", "other", "--yes").stdout == "other is deleted\n"
    assert "remove" not in run("--help").stdout


def test_preprocessing_options_change_the_default(run, add):
    add("--input-size", 64, 96, "--mean", "0.1,0.2,0.3", "--interpolation", "bicubic")
    values = json.loads(run("show", "tiny", "--json").stdout)["preprocessing"]
    assert values == {
        "channels": 3,
        "input_size": [64, 96],
        "resize": 101,  # 168 for 160, in proportion
        "interpolation": "bicubic",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.5, 0.5],
    }


def test_match_by_order(run, lite0_weights, lite0_archive, tmp_path):
    given = ("--arch", "timm:tf_efficientnet_lite0", "--weights", lite0_weights, "--labels", "imagenet")
    assert "ask for match by order" in run("add", "efficientnet-lite0", *given, code=1).stderr
    note = run("add", "efficientnet-lite0", *given, "--match", "order").stderr
    assert "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --interpolation bicubic" in note  # timm's, of the weights it trained
    other = run("add", "other", *given, "--match", "order", "--mean", "0.4,0.4,0.4", "--interpolation", "bilinear")
    assert "--mean 0.4,0.4,0.4 --std 0.5,0.5,0.5 --interpolation bilinear" in other.stderr
    told = run("add", "fed", *given, "--match", "order", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    assert not told.stderr
    assert (tmp_path / "store" / "efficientnet-lite0.mar").read_bytes() == lite0_archive.read_bytes()


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        (["--arch", "timm:test_resnett"], "a", "did you mean"),
        (["--weights", "none.pth"], "a", "none.pth is no file"),
        (["--labels", "imagenet"], "a", "1000 of them, but the weights tell 10"),
        (["--resize", "3"], "a", "preprocessing.resize: 3"),
        (["--mean", "1,2"], "a", "preprocessing.mean"),
        (["--store", "/dev/null/x"], "a", "/dev/null"),
        ([], "../a", "name: '../a'"),
    ],
)
def test_errors_are_one_line(add, options, name, message):
    result = add(*options, name=name, code=1)
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_usage_errors(run, add):
    assert "not numbers" in add("--mean", "a,b", code=2).stderr
    run("add", "a", code=2)


def test_a_damaged_archive_is_listed_and_explained(run, add, tmp_path):
    add()
    (tmp_path / "store" / "bad.mar").write_bytes(b"junk")
    result = run("list")
    assert "damaged" in result.stdout
    assert "not a sound zip file" in result.stderr
    assert "bad.mar" in run("show", "bad", code=1).stderr
    assert "holds bad, tiny" in run("remove", "none", "--yes", code=1).stderr


def test_listing_and_removing_import_no_networks(add, tmp_path):
    """A second at most: torch alone takes several."""
    add()
    heavy = "torch", "torchvision", "timm", "grpc", "numpy"
    for words in (["models", "list"], ["models", "remove", "tiny", "--yes"], ["--help"]):
        code = (
            "import sys\nfrom ouzel_client._cli.main import main\n"
            f"main({words!r}, standalone_mode=False)\n"
            f"print([name for name in {heavy!r} if name in sys.modules])"
        )
        environment = os.environ | {"OUZEL_MODEL_STORE": str(tmp_path / "store"), "OUZEL_STATE": str(tmp_path / "s")}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.splitlines()[-1] == "[]"
    assert not list((tmp_path / "store").iterdir())


def test_name_and_version(run, add):
    assert json.loads(add("--json", name="tiny@3").stdout)["version"] == "3"
    assert json.loads(run("show", "tiny@3", "--json").stdout)["version"] == "3"
    assert run("promote", "tiny@3").stdout == "tiny: version 3 is the default\n"
    assert "no version '4'" in run("promote", "tiny@4", code=1).stderr
    assert "no version '4'" in run("remove", "tiny@4", "--yes", code=1).stderr
    assert "NAME@VERSION" in run("promote", "tiny@", code=2).stderr
    assert "two versions" in run("promote", "tiny@3", "--version", "1", code=2).stderr
    assert json.loads(run("list", "--json").stdout)[0]["kind"] == "packed"
    run("remove", "tiny@3", "-y")
    assert "No models" in run("list").stdout


def test_the_precision_is_kept_and_shown(run, add):
    add("--precision", "tf32")
    assert json.loads(run("show", "tiny", "--json").stdout)["precision"] == "tf32"
    assert "tf32" in run("show", "tiny").stdout
    assert "'exact', 'tf32', 'bf16'" in add("--precision", "fp8", name="other", code=2).stderr
