"""`ouzel maximize-local`, as a user runs it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ouzel.cli.maximize import maximize


def run(store, *arguments):
    result = CliRunner().invoke(maximize, ["efficientnet-lite0", "--store", str(store), *arguments])
    assert "Traceback" not in result.output
    return result


def test_what_is_written(lite0_store, tmp_path, chelsea):
    (tmp_path / "photos").mkdir()
    Image.fromarray(chelsea).save(tmp_path / "photos" / "cat.png")
    out = tmp_path / "out"
    result = run(
        lite0_store,
        *("--logit", "Egyptian cat", "--channel", "blocks.1:3", "--unit", "blocks.1:2:5:6", "--set", "steps=4"),
        *("--recipe", "pixel", "--size", "64", "96", "--images", "2", "--seed", "3", "--out", str(out), "--json"),
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads((out / "result.json").read_text())
    assert [one["title"] for one in report["found"][::2]] == [
        "Egyptian cat",
        "blocks.1 channel 3",
        "blocks.1 unit 2 at (5, 6)",
    ]
    assert report["recipe"]["steps"] == report["steps"] == len(report["found"][0]["history"]) == 4
    tensors = np.load(out / "tensors.npz")
    assert tensors["images"].shape == (6, 3, 64, 96)
    assert tensors["transparency"].shape == (6, 64, 96)
    for number, one in enumerate(report["found"]):
        pixels = np.asarray(Image.open(out / one["file"]))
        assert np.array_equal(pixels.transpose(2, 0, 1), np.rint(tensors["images"][number] * 255))
    assert Image.open(out / "sheet.png").size[0] > 96 * 2
    assert (out / "sheet.html").read_text().count("<img") == 6


def test_compared_with_photographs(lite0_store, lite0, tmp_path, chelsea):
    (tmp_path / "photos").mkdir()
    Image.fromarray(chelsea).save(tmp_path / "photos" / "cat.png")
    arguments = ("--logit", "285", "--recipe", "maco", "--set", "steps=2", "--out", str(tmp_path / "out"))
    result = run(lite0_store, *arguments, "--data", str(tmp_path / "photos"))
    assert result.exit_code == 0, result.output
    logit = float(lite0.network(lite0.preprocessing(Image.fromarray(chelsea))[None])[0, 285])
    assert f"best photograph: {logit:.1f}" in " ".join(result.stdout.split())
    assert "cat.png" in result.stdout


def test_the_best_of_a_data_set(lite0_store, tmp_path, chelsea):
    from skimage import data

    (tmp_path / "photos").mkdir()
    for name, pixels in (("cat.png", chelsea), ("cup.png", data.coffee()), ("rocket.jpg", data.rocket())):
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    arguments = ("--logit", "espresso", "--channel", "blocks.1:3", "--recipe", "dataset", "--images", "2")
    out = tmp_path / "out"
    result = run(lite0_store, *arguments, "--data", str(tmp_path / "photos"), "--out", str(out), "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [one["title"] for one in report["found"]] == [
        "espresso",
        "espresso",
        "blocks.1 channel 3",
        "blocks.1 channel 3",
    ]
    assert report["found"][0]["name"] == "cup.png"
    for one in report["found"]:
        left, top, right, bottom = one["box"]
        assert Image.open(out / one["file"]).size == (right - left, bottom - top)
    left, top, right, bottom = report["found"][2]["box"]
    assert 3 <= right - left < 60
    assert 3 <= bottom - top < 60


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "name at least one --logit"),
        (("--logit", "egyptian kat"), 1, "did you mean"),
        (("--channel", "blocks.1"), 2, "'blocks.1' is not LAYER:C"),
        (("--channel", "nolayer:1"), 1, "no layer 'nolayer'"),
        (("--channel", "blocks.1:1000"), 1, "1000 is not within 0..23"),
        (("--logit", "1", "--recipe", "furier"), 1, "did you mean 'fourier'"),
        (("--logit", "1", "--set", "steps"), 2, "'steps' is not NAME=VALUE"),
        (("--logit", "1", "--set", "steps=many"), 2, "'many' is not a number"),
        (("--logit", "1", "--set", "stepz=3"), 1, "knows no parameter 'stepz'"),
        (("--logit", "1", "--size", "9000", "10"), 1, "each within 1..4096"),
        (("--logit", "1", "--recipe", "dataset"), 2, "the recipe dataset needs --data"),
        (("--direction", "blocks.1:a,b"), 2, "is not LAYER:W,W"),
    ],
)
def test_errors(lite0_store, tmp_path, arguments, status, message):
    result = run(lite0_store, *arguments, "--out", str(tmp_path / "out"))
    assert result.exit_code == status, result.output
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
