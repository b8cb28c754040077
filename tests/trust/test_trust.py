"""The whole report, on a small network and on the real one."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.models import archive
from ouzel.models.photographs import BOXES
from ouzel.saliency import METHODS
from ouzel.trust import EDGES, QUICK, RANDOM, TrustOptions, explainers, from_folder, shipped, trust
from ouzel.trust.report import FIGURES

SMALL = models.Preprocessing(input_size=(32, 32), resize=36)


@pytest.fixture(scope="module")
def small():
    """A seeded network of 4 classes for 32 x 32 pixels, as a Model."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 4),
    )
    return models.Model(
        name="small",
        version="1",
        network=models.freeze(network),
        labels=("a", "b", "c", "d"),
        preprocessing=SMALL,
        arch="",
        digest="sha256:0",
        card={},
    )


@pytest.fixture
def folder(tmp_path):
    """Two images, a mask for one of them."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for seed, name in enumerate(("one.png", "two.jpg")):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    mask = np.zeros((48, 60), np.uint8)
    mask[20:30, 20:40] = 255
    Image.fromarray(mask).save(tmp_path / "masks" / "one.png")
    return tmp_path


def test_every_method_and_both_baselines_get_every_figure(small, folder, monkeypatch):
    # Which format is faster is chance for a network as small as this, and changes the last bits.
    one_format = lambda network, *_: (network, torch.contiguous_format)  # noqa: E731
    monkeypatch.setattr("ouzel.saliency.engine.prepare.faster_format", one_format)
    photographs = from_folder(folder / "images", SMALL, folder / "masks")
    told = []
    options = TrustOptions(steps=4, stages=2, samples=2, perturbations=8)
    report = trust(small, photographs, options, on_progress=lambda *state: told.append(state))
    assert [score.method for score in report.scores] == [*METHODS, EDGES, RANDOM]
    for score in report.scores:
        assert not score.problem
        assert score.figures.keys() == FIGURES.keys()
        assert all(math.isfinite(value) for value in score.figures.values())
        assert len(score.mprt_stages) == 2
        assert sum(score.mprt_stages) / 2 == pytest.approx(score.figures["mprt"])
        assert [one.shape for one in score.maps] == [(32, 32), (32, 32)]
    by_name = {score.method: score for score in report.scores}
    assert by_name[EDGES].mprt_stages == pytest.approx((1, 1))  # it knows nothing of the network
    assert abs(by_name[RANDOM].figures["mprt"]) < 0.15
    assert not by_name[EDGES].fails
    assert [done for _, done, _ in told] == list(range(len(METHODS) + 3))
    again = trust(small, photographs, options)
    assert again.scores == report.scores


def test_maps_of_an_unchanged_network_do_not_change(small, folder, monkeypatch):
    """Baselines and noise must be the same for the network and its randomised copies: here nothing is randomised."""
    same = lambda network, stages, seed: (copy.deepcopy(network) for _ in range(stages))  # noqa: E731
    monkeypatch.setattr("ouzel.metrics.randomization.cascade", same)
    options = TrustOptions(steps=2, stages=1, samples=2, perturbations=8)
    report = trust(small, from_folder(folder / "images", SMALL), options)
    for score in report.scores:
        if score.method != RANDOM:
            assert score.figures["mprt"] == pytest.approx(1, abs=1e-3), score.method


def test_a_method_that_ignores_the_network_fails(small, folder, monkeypatch):
    monkeypatch.setattr(explainers, "method", lambda name, *_, **__: explainers.edge_filter)
    report = trust(small, from_folder(folder / "images", SMALL), replace(QUICK, methods=("gradient",)))
    score = report.scores[0]
    assert score.fails[0].startswith("mprt: 1.00")
    assert any("no better than edge filter" in each for each in score.fails)
    assert "energy" not in score.figures  # no masks


def test_a_method_that_the_model_refuses_is_reported(small, folder):
    smooth = torch.nn.Sequential(*[torch.nn.SiLU() if isinstance(m, torch.nn.ReLU) else m for m in small.network])
    model = replace(small, network=models.freeze(smooth))
    report = trust(model, from_folder(folder / "images", SMALL), replace(QUICK, methods=("guided", "gradient")))
    assert "rectif" in report.scores[0].problem
    assert not report.scores[0].figures
    assert report.scores[1].figures


def test_photographs_are_what_the_model_sees(folder):
    one, two = from_folder(folder / "images", SMALL, folder / "masks")
    assert (one.name, two.name) == ("one.png", "two.jpg")
    assert torch.equal(one.x, SMALL(Image.open(folder / "images" / "one.png")))
    assert one.mask.sum() == pytest.approx(10 * 20 * (36 / 48) ** 2, rel=0.15)
    assert one.mask[16, 14]
    assert two.mask is None
    assert one.picture.shape == (32, 32, 3)


def test_shipped_photographs_show_their_objects(lite0):
    photographs = shipped(lite0.preprocessing)
    assert [one.name for one in photographs] == list(BOXES)
    assert [one.name for one in photographs if one.mask is None] == ["chelsea"]
    assert set().union(*(one.labels for one in photographs)) <= set(lite0.labels)
    coffee = photographs[1]
    assert coffee.mask_for("espresso") is coffee.mask
    assert coffee.mask_for("tabby") is None
    assert all(0.02 < one.mask.float().mean() < 0.6 for one in photographs if one.mask is not None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: [path.unlink() for path in (f / "images").iterdir()], "holds no PNG, JPEG or WebP"),
        (lambda f: (f / "images" / "one.png").write_bytes(b"nothing"), r"one\.png: .*is not a PNG"),
        (lambda f: Image.new("L", (50, 40), 255).save(f / "masks" / "one.png"), "50 x 40 pixels, the image 60 x 48"),
        (lambda f: Image.new("L", (60, 48)).save(f / "masks" / "one.png"), "shows nothing"),
        (lambda f: (f / "masks" / "one.png").rename(f / "masks" / "other.png"), "no file in .* has the stem"),
    ],
)
def test_bad_folders(folder, change, message):
    change(folder)
    with pytest.raises(InvalidArgument, match=message) as caught:
        from_folder(folder / "images", SMALL, folder / "masks")
    assert caught.value.field in ("images", "masks")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("gradint",)}, "did you mean 'gradient'"),
        ({"methods": ()}, "name at least one"),
        ({"steps": 1}, r"steps: 1 is not within 2\.\.1024"),
        ({"samples": 1000}, r"samples: 1000 is not within 2\.\.256"),
        ({"stages": 0}, r"stages: 0 is not within 1\.\.64"),
        ({"perturbations": 0}, r"perturbations: 0 is not within 8\.\.1024"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidArgument, match=message):
        TrustOptions(**options)


def test_no_photographs(small):
    with pytest.raises(InvalidArgument, match="at least one photograph"):
        trust(small, [])


def test_command(lite0, lite0_weights, chelsea, tmp_path, monkeypatch):
    """As a user runs it, with the real network: table, JSON, page; the second time nothing is computed."""
    from click.testing import CliRunner

    from ouzel.cli.trust import trust as command

    smaller = lite0.preprocessing.adapted(input_size=(128, 128))  # a third of the work
    store = tmp_path / "store"
    archive.create(lite0.name, lite0.arch, lite0_weights, "imagenet", store, match="order", preprocessing=smaller)
    cat = lite0.labels[int(lite0.network(smaller(Image.fromarray(chelsea))[None]).argmax())]
    monkeypatch.setenv("OUZEL_STATE", str(tmp_path / "state"))
    arguments = [lite0.name, "--store", str(store), "--quick", "--method", "grad_cam"]
    first = CliRunner().invoke(command, [*arguments, "--html", str(tmp_path / "page.html")])
    assert first.exit_code == 0, first.output
    assert "grad_cam" in first.stdout
    lines = first.stderr.splitlines()  # no terminal: a line for each method
    assert next(line for line in lines if "grad_cam" in line).startswith("measuring grad_cam: ")
    assert lines[-1].startswith("measured: ")
    assert f"chelsea ({cat})" in " ".join(first.stdout.split())
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == 4 + 3 * 4 + 1  # the photographs, three maps of each, the legend
    assert page.count('src="data:') == page.count("src=")  # nothing is fetched from elsewhere
    assert page.count("href=") == page.count('href="data:')
    monkeypatch.setattr("ouzel.trust.report._Bench", None)  # to compute would fail
    second = CliRunner().invoke(command, [*arguments, "--json"])
    assert second.exit_code == 0, second.output
    report = json.loads(second.stdout)
    figures = {score["method"]: score["figures"] for score in report["scores"]}
    assert figures["grad_cam"]["insertion"] > figures["random"]["insertion"]
    assert figures["grad_cam"]["deletion"] < figures["random"]["deletion"]
    assert figures["grad_cam"]["energy"] > figures["random"]["energy"]
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    (kept,) = (tmp_path / "state" / "trust").glob("*/report.json")
    kept.write_text("{")
    damaged = CliRunner().invoke(command, arguments)
    assert damaged.exit_code == 1
    assert "is damaged; measure again with --fresh" in " ".join(damaged.output.split())


@pytest.mark.parametrize("package", ["captum", "scipy"])
def test_missing_packages_are_named(lite0_store, tmp_path, monkeypatch, package):
    import importlib.util

    from click.testing import CliRunner

    from ouzel.cli.trust import trust as command

    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == package else real(name, *rest))
    monkeypatch.setenv("OUZEL_STATE", str(tmp_path / "state"))
    result = CliRunner().invoke(command, ["efficientnet-lite0", "--store", str(lite0_store), "--quick"])
    assert result.exit_code == 1
    assert f"needs {package}, which is not installed" in result.output


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["none"], 1, "no model 'none'"),
        (["efficientnet-lite0", "--method", "foo"], 1, "'foo' is not one of"),
        (["efficientnet-lite0", "--masks", "."], 2, "--masks goes with --images"),
        (["efficientnet-lite0", "--images", "/nowhere"], 2, "does not exist"),
    ],
)
def test_command_errors(lite0_store, tmp_path, monkeypatch, arguments, status, message):
    from click.testing import CliRunner

    from ouzel.cli.trust import trust as command

    monkeypatch.setenv("OUZEL_STATE", str(tmp_path))
    result = CliRunner().invoke(command, [*arguments, "--store", str(lite0_store)])
    assert result.exit_code == status
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
