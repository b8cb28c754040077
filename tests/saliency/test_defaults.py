"""Defaults that are pixels are a share of the input: at 224 what they were, at 32 something to see."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ouzel.errors import InvalidArgument
from ouzel.saliency import Explainer, Saliency, Top
from ouzel.saliency.methods.occlusion import Occlusion

from .nets import Cnn, images, seeded


@pytest.mark.parametrize(
    ("height", "width", "window", "stride"),
    [(224, 224, 32, 16), (32, 32, 5, 2), (28, 64, 4, 2), (3, 3, 1, 1), (299, 299, 43, 21)],
)
def test_window_and_stride(height: int, width: int, window: int, stride: int) -> None:
    sized = Occlusion().sized(height, width)
    assert (sized.window, sized.stride) == (window, stride)
    assert Occlusion(8).sized(224, 224) == Occlusion(8, 8)
    assert Occlusion(64).sized(224, 224) == Occlusion(64, 16)
    assert Occlusion(9, 3).sized(32, 32) == Occlusion(9, 3)


def test_occlusion_of_a_small_input_is_no_constant() -> None:
    explainer = Explainer(seeded(Cnn, nn.ReLU()))
    x = images(1, size=32)
    default, spelt = (
        explainer(x, [Saliency("occlusion", 1, "signed_sum", **parameters)]).maps[0]
        for parameters in ({}, {"window": 5, "stride": 2})
    )
    assert (default.parameters["window"], default.parameters["stride"]) == (5, 2)
    assert torch.equal(default.values, spelt.values)
    assert float(default.values.std()) > 0.01 * float(default.values.abs().max())
    assert explainer.plan([Saliency("occlusion")], 32, 32).passes == 1 + Occlusion(5, 2).cost(32, 32)


def test_a_step_longer_than_the_default_window() -> None:
    with pytest.raises(InvalidArgument, match="stride: 6 is more than the window, 5") as caught:
        Explainer(seeded(Cnn, nn.ReLU()))(images(1, size=32), [Saliency("gradient"), Saliency("occlusion", stride=6)])
    assert caught.value.field == "saliency[1].parameters.stride"


@pytest.mark.parametrize(("layer", "told"), [("fine", False), ("coarse", True)])
def test_a_map_of_few_places_says_so(layer: str, told: bool) -> None:
    network = nn.Sequential()
    network.add_module("fine", nn.Conv2d(3, 4, 3, stride=4, padding=1))
    network.add_module("coarse", nn.Conv2d(4, 4, 3, stride=2, padding=1))
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flat", nn.Flatten())
    result = Explainer(network.eval())(images(1, size=32), [Saliency("grad_cam", layer=layer)]).maps[0]
    expected = ("coarse: coarse has 4 x 4 places for the whole image; choose another layer",)
    assert result.caveats == (expected if told else ())


def test_a_plan_stands_for_its_requests() -> None:
    explainer, x = Explainer(seeded(Cnn, nn.ReLU())), images(2, size=32)
    requests = [Saliency("occlusion", Top(2)), Saliency("gradient", 1)]
    expected = explainer.forward(x, [requests, []]).explain()
    plan, none = explainer.plan(requests, 32, 32), explainer.plan([], 32, 32)
    assert [one.request for one in plan.maps] == [0, 0, 1]
    maps, others = explainer.forward(x, [plan, none]).explain()
    assert isinstance(maps, list)
    assert isinstance(expected[0], list)
    assert all(torch.equal(a.values, b.values) for a, b in zip(maps, expected[0], strict=True))
    assert others == []
    with pytest.raises(InvalidArgument, match="a plan for 32 x 32 pixels, x has 24 x 24"):
        explainer.forward(images(1, size=24), [plan])
