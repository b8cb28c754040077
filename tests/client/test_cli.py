"""`ouzel explain`: the table, JSON lines, files, errors in one line; and the verbs that others plug in."""

from __future__ import annotations

import base64
import json
import shutil
from importlib.metadata import EntryPoint

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ouzel_client._cli import main, plugins
from ouzel_client._cli.explanations import stems


@pytest.fixture
def run(server, monkeypatch):
    monkeypatch.setenv("OUZEL_GRPC", server.target)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    return lambda *args: CliRunner().invoke(main.main, [str(arg) for arg in args])


def test_a_table(run, picture, server):
    result = run("explain", picture, "--model", "m", "--top-k", 2)
    assert result.exit_code == 0, result.output
    for text in ("cat.png", "cat", "0.665", "dog", "0.245"):
        assert text in result.stdout
    assert result.stderr == ""
    assert result.stdout.splitlines()[-1] == "guided: fails a sanity check"  # what a reader of the map must know
    assert [wish["method"] for wish in server.requests[0].options["saliency"]] == ["guided", "grad_cam"]


def test_json_lines(run, picture):
    result = run("explain", picture, picture, "--model", "m", "--json", "--method", "guided", "--target", "dog")
    assert result.exit_code == 0, result.output
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(documents) == 2
    assert documents[0]["image"] == str(picture)
    assert documents[0]["scores"][0]["label"] == "cat"
    assert documents[0]["saliency"][0]["target"]["label"] == "dog"
    assert documents[0]["saliency"][0]["shape"] == [8, 8]
    assert "files" not in documents[0]


def test_files(run, picture, tmp_path):
    out = tmp_path / "new" / "out"
    result = run("explain", picture, "--model", "m", "--out", out, "--size", "original", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"] == [
        str(out / name) for name in ("cat.guided.png", "cat.grad_cam.png", "cat.npz")
    ]
    with Image.open(out / "cat.guided.png") as overlay:
        assert overlay.size == (30, 20)
    with np.load(out / "cat.npz") as arrays:
        assert arrays["saliency/guided"].shape == (20, 30)
        assert arrays["labels"].tolist() == ["cat"]


def test_options_reach_the_service(run, picture, server):
    run("explain", picture, "--model", "m", "--target", "1", "--when-score-below", "0.25", "--top-k", "3")
    [request] = server.requests
    assert request.options["when"] == {"score_below": 0.25}
    assert request.options["top_k"] == 3
    assert request.options["saliency"][0]["target"] == {"label": "1"}  # what it means, the service knows


def test_each_method_has_parameters_of_its_own(run, picture, server):
    result = run(
        "explain", picture, "--model", "m", "--reduction", "sum_abs", "--size", "original",
        "--method", "integrated_gradients:steps=64,baseline=white",
        "--method", "smoothgrad:samples=32,of=guided,noise=0.2,reduction=none",
        "--method", "grad_cam:layer=4,target=dog,size=model",
        "--method", "guided:target=1",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    first, second, third, fourth = server.requests[0].options["saliency"]
    assert first["parameters"] == {"steps": {"integer": "64"}, "baseline": {"text": "white"}}
    assert first["reduction"] == "SUM_ABS"
    assert second["parameters"] == {"samples": {"integer": "32"}, "of": {"text": "guided"}, "noise": {"number": 0.2}}
    assert second["reduction"] == "NONE"
    assert third["parameters"] == {"layer": {"text": "4"}}
    assert (third["target"], third["size"], fourth["size"]) == ({"label": "dog"}, "MODEL_INPUT", "ORIGINAL_IMAGE")
    assert "parameters" not in fourth
    assert fourth["target"] == {"label": "1"}


def test_an_image_among_the_parameters(run, picture, png, server):
    result = run("explain", picture, "--model", "m", "--method", f"integrated_gradients:baseline=@{picture}")
    assert result.exit_code == 0, result.output
    tensor = server.requests[0].options["saliency"][0]["parameters"]["baseline"]["tensor"]
    assert base64.b64decode(tensor["data"]) == png
    result = run("explain", picture, "--model", "m", "--method", "integrated_gradients:baseline=@none.png")
    assert result.exit_code == 1
    assert "saliency[0].baseline: none.png: No such file" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "target"),
    [
        (["--contrast", "cat", "1"], {"contrast": {"a": {"label": "cat"}, "b": {"label": "1"}}}),
        (["--target-top", "2"], {"top": 2}),
        (["--target", "dog"], {"label": "dog"}),
        (["--target", "index:1"], {"label": "index:1"}),
        (["--target", "0"], {"label": "0"}),
    ],
)
def test_targets(run, picture, server, args, target):
    result = run("explain", picture, "--model", "m", "--method", "guided", "--json", *args)
    assert result.exit_code == 0, result.output
    assert server.requests[0].options["saliency"][0]["target"] == target
    assert len(json.loads(result.stdout)["saliency"]) == target.get("top", 1)


def test_one_bad_image_does_not_stop_the_others(run, picture, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    result = run("explain", bad, picture, tmp_path / "none.png", "--model", "m")
    assert result.exit_code == 1
    assert "0.665" in result.stdout
    errors = result.stderr.splitlines()
    assert [line.startswith("Error: ") for line in errors] == [True, True]
    assert "bad.png" in errors[0]
    assert "none.png: No such file" in errors[1]


def test_json_carries_errors(run, tmp_path):
    result = run("explain", tmp_path / "none.png", "--model", "m", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["kind"] == "InvalidArgument"


def test_the_model_comes_from_the_environment(run, picture, server, monkeypatch):
    monkeypatch.setenv("OUZEL_MODEL", "m")
    assert run("explain", picture).exit_code == 0
    assert server.requests[0].model == "m"


def test_no_model_is_told_in_one_line(run, picture):
    result = run("explain", picture)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: which model?")
    assert len(result.stderr.splitlines()) == 1


def test_no_services_are_told_in_one_line(run, picture, monkeypatch):
    monkeypatch.delenv("OUZEL_GRPC")
    result = run("explain", picture, "--model", "m")
    assert result.exit_code == 1
    assert "ouzel up" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_folder_that_cannot_be_made_is_told_in_one_line(run, picture):
    result = run("explain", picture, "--model", "m", "--out", picture / "out")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["x", "--top-k", "0"],
        ["x", "--timeout", "0"],
        ["x", "--when-score-below", "2"],
        ["x", "--reduction", "mean"],
        ["x", "--target-top", "0"],
        ["x", "--target", "a", "--contrast", "a", "b"],
        ["x", "--contrast", "a"],
        ["x", "--method", "rise:masks"],
        ["x", "--method", "rise:=3"],
        ["x", "--method", "rise:"],
        ["x", "--method", "rise:method=guided"],
        ["x", "--method", "rise:reduction=mean"],
    ],
)
def test_wrong_usage(run, args):
    assert run("explain", *args).exit_code == 2


def test_labels_and_names_cannot_write_to_the_terminal(run, picture, server):
    server.models["m"] = ("\x1b[31mred[bold]",)
    odd = picture.with_name("[red]a\x1b.png")
    shutil.copy(picture, odd)
    result = run("explain", odd, "--model", "m")
    assert "\x1b" not in result.stdout
    assert "red[bold]" in result.stdout
    assert "[red]a" in result.stdout
    server.models["m"] = ("نی\u200cلبک",)
    assert "نی\u200cلبک" in run("explain", picture, "--model", "m").stdout


def test_images_of_one_name_get_files_of_their_own(tmp_path):
    names = stems([tmp_path / "a" / "x.png", tmp_path / "x-2.png", tmp_path / "b" / "x.jpg", tmp_path / "y.png"])
    assert names == ["x", "x-2", "x-3", "y"]


def test_plugged_verbs_are_loaded_when_run_or_listed(run, picture, monkeypatch):
    loaded = []

    class Entry(EntryPoint):
        def load(self):
            loaded.append(self.name)
            if self.name == "broken":
                raise ImportError("no torch here")
            return click.Command("wave", callback=lambda: click.echo("waved"), help="Wave to somebody.")

    entries = [Entry(name, "some.module:wave", plugins.GROUP) for name in ("wave", "broken")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
    assert run("explain", picture, "--model", "m").exit_code == 0
    assert loaded == []
    lines = [line.split() for line in run("--help").output.splitlines()]
    assert ["wave", "Wave", "to", "somebody."] in lines
    assert ["broken", "broken:", "some.module:wave", "cannot", "be", "loaded", "(no", "torch", "here)"] in lines
    assert loaded == ["broken", "wave"]
    assert run("wave").output == "waved\n"
    result = run("broken")
    assert result.exit_code == 1
    assert "no torch here" in result.stderr
    assert run("nonsense").exit_code == 2
