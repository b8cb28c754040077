"""Bad input: one clear error before the first step."""

from __future__ import annotations

import pytest
import torch

from ouzel.errors import InvalidArgument, NotFound, OuzelError
from ouzel.maximize import Channel, ClassLogit, Direction, Maco, Pixel, Unit, make_recipe, maximize


class Never(torch.nn.Module):
    """Has a layer that no pass reaches."""

    def __init__(self):
        super().__init__()
        self.used = torch.nn.Conv2d(1, 2, 3)
        self.unused = torch.nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.used(x).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": []}, "at least one node"),
        ({"targets": [Channel("use", 0)]}, "no layer 'use'; did you mean 'used'"),
        ({"targets": [Channel("unused", 0)]}, "'unused' does not run"),
        ({"targets": [Channel("used", 2)]}, r"targets\[0\]\.channel: 2 is not within 0\.\.1"),
        ({"targets": [ClassLogit(0), ClassLogit(9)]}, r"targets\[1\]\.logit: 9 is not within 0\.\.1"),
        (
            {"targets": [ClassLogit("2")]},
            r"targets\[0\]\.logit: the model has no class '2', nor is it an index in 0\.\.1",
        ),
        ({"targets": [ClassLogit("index:2")]}, r"nor is it an index in 0\.\.1"),
        ({"targets": [Unit("used", 0, x=14)]}, r"targets\[0\]\.x: 14 is not within 0\.\.13"),
        ({"targets": [Unit("used", 0, y=-1)]}, r"targets\[0\]\.y: -1 is not within 0\.\.13"),
        ({"targets": [Direction("used", (1.0,))]}, "1 weights for 2 channels"),
        ({"targets": [Direction("used", (0.0, 0.0))]}, "not all 0"),
        ({"size": (2, 2)}, r"the network cannot take \(1, 2, 2\)"),
        ({"size": None}, "a plain module needs"),
        ({"size": (0, 5000)}, r"each within 1\.\.4096"),
        ({"images_per_target": 0}, "images_per_target: 0 is not within"),
        ({"memory_bytes": 10_000}, "the budget is 0 MiB; at most 0 images fit"),
        ({"recipe": "furier"}, "did you mean 'fourier'"),
        ({"recipe": Maco(spectrum=((1.0, 2.0),) * 3)}, "give 1 rows of amplitudes"),
        ({"resume": {"step": 3}}, "resume: is not the state of this call"),
    ],
)
def test_bad_calls(options, message):
    with pytest.raises(OuzelError, match=message):
        maximize(Never(), **{"targets": [ClassLogit(0)], "size": (16, 16), "channels": 1, **options})


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("pixel", {"rat": 1}, "pixel knows no parameter 'rat'; one of steps, rate"),
        ("fourier", {"coarse_to_fine": None}, r"coarse_to_fine: None is not a number"),
        ("fourier", {"coarse_to_fine": 1.5}, r"coarse_to_fine: 1\.5 is not within 0\.\.1"),
        ("maco", {"views_per_step": None}, r"views_per_step: None is not an integer"),
        ("pixel", {"steps": 0}, r"steps: 0 is not within 1\.\.100000"),
        ("pixel", {"steps": 1.5}, "steps: 1.5 is not an integer"),
        ("fourier", {"rate": "fast"}, "rate: 'fast' is not a number"),
        ("fourier", {"jitter": 0.9}, r"jitter: 0.9 is not within 0\.\.0\.5"),
        ("maco", {"rotate": 500}, r"rotate: 500 is not within 0\.\.180"),
    ],
)
def test_bad_recipes(name, parameters, message):
    with pytest.raises(InvalidArgument, match=message):
        make_recipe(name, parameters)


def test_labels_by_name_need_a_model_that_has_them(lite0):
    with pytest.raises(OuzelError, match="zebr"):
        maximize(lite0, [ClassLogit("zebrax")], recipe=Pixel(steps=1))


def test_a_script_shows_no_layers():
    network = torch.nn.Sequential(torch.jit.script(torch.nn.Conv2d(1, 2, 3)), torch.nn.Flatten())
    with pytest.raises((OuzelError, NotFound), match="TorchScript"):
        maximize(network, [Channel("0", 0)], recipe=Pixel(steps=1), size=(8, 8), channels=1)


def test_bad_data_is_found_before_the_first_step():
    steps = []
    with pytest.raises(InvalidArgument, match="at least one image"):
        maximize(Never(), [ClassLogit(0)], size=(16, 16), channels=1, data=[], on_step=steps.append)
    assert not steps
