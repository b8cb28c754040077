"""Images that the caller gives: the baseline of integrated gradients, the fill of occlusion."""

from __future__ import annotations

import copy
from typing import Any

import captum.attr
import pytest
import torch
from torch import Tensor, nn

from ouzel.errors import InvalidArgument
from ouzel.saliency import Explainer, GivenImage, Saliency

from . import reference
from .nets import Cnn, images, seeded

PARAMETER = {"integrated_gradients": "baseline", "occlusion": "fill"}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return seeded(Cnn, nn.ReLU())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_integrated_gradients_from_a_given_image(network: nn.Module, dtype: torch.dtype) -> None:
    network = copy.deepcopy(network).to(dtype)
    x, start = images(3, dtype=dtype), images(1, dtype=dtype, seed=7)[0]
    result = Explainer(network)(x, [Saliency("integrated_gradients", 3, "none", baseline=start, steps=6)]).maps[0]
    peer = captum.attr.IntegratedGradients(network).attribute(x, start[None].expand_as(x), target=3, n_steps=6)
    assert reference.error(result.values, peer) <= (1e-6 if dtype == torch.float64 else 1e-4)
    gap = (result.values.sum(dim=(1, 2, 3)) - (network(x) - network(start[None]))[:, 3].detach()).abs()
    torch.testing.assert_close(result.measures["completeness_gap"].to(dtype), gap, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("method", PARAMETER)
def test_a_given_black_image_is_the_baseline_black(network: nn.Module, method: str) -> None:
    explainer, x = Explainer(network), images(2)
    extra = {"window": 8, "stride": 4} if method == "occlusion" else {}
    wishes = [Saliency(method, 1, **{PARAMETER[method]: black}, **extra) for black in ("black", torch.zeros(3, 16, 16))]
    named, given = explainer(x, wishes).maps
    assert reference.same_bytes([named.values], [given.values])


def test_equal_images_are_equal_requests() -> None:
    image = images(1, dtype=torch.float32)[0]
    one, twin = (Saliency("integrated_gradients", baseline=each) for each in (image, image.clone()))
    other = Saliency("integrated_gradients", baseline=image + 1)
    assert one == twin != other
    assert hash(one) == hash(twin)
    assert len({one, twin, other}) == 2
    baseline = one.method.baseline  # type: ignore[attr-defined]
    assert isinstance(baseline, GivenImage)
    assert len(repr(one)) < 400
    assert str(baseline).startswith("image sha256:")
    image += 1  # what was asked for stays as it was
    assert one == twin


def test_the_image_of_one_row_is_not_that_of_another(network: nn.Module) -> None:
    explainer, x = Explainer(network), images(2)
    wishes = [[Saliency("integrated_gradients", 1, "none", baseline=images(1, seed=seed)[0])] for seed in (7, 8)]
    together = explainer.forward(x, wishes).explain()
    for row, wish in enumerate(wishes):
        alone = explainer(x[row : row + 1], wish).maps[0].values[0]
        assert reference.error(together[row][0].values, alone) <= 1e-9
    assert reference.error(explainer(x[:1], wishes[1]).maps[0].values[0], together[0][0].values) > 0.1


@pytest.mark.parametrize("method", PARAMETER)
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(16, 16), "(16, 16) is no image"),
        (torch.zeros(1, 3, 16, 16), "is no image"),
        (torch.zeros(3, 16, 16, dtype=torch.uint8), "torch.uint8"),
        (torch.full((3, 16, 16), float("nan")), "not finite"),
        (torch.full((3, 16, 16), float("inf")), "not finite"),
        ("grey", "neither an image nor one of black, white"),
        (3, "3 is a int"),
    ],
    ids=str,
)
def test_what_is_no_image(method: str, image: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Saliency(method, **{PARAMETER[method]: image})
    assert caught.value.field == f"parameters.{PARAMETER[method]}"
    assert message in str(caught.value)


@pytest.mark.parametrize("method", PARAMETER)
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 15), (3, 1, 1)])
def test_an_image_of_another_size(network: nn.Module, method: str, shape: tuple[int, ...]) -> None:
    extra = {"window": 8, "stride": 8} if method == "occlusion" else {}
    with pytest.raises(InvalidArgument, match="the model's input") as caught:
        Explainer(network)(images(1), [Saliency(method, **{PARAMETER[method]: torch.zeros(shape)}, **extra)])
    assert caught.value.field == f"saliency[0].parameters.{PARAMETER[method]}"


def test_no_other_parameter_is_an_image() -> None:
    image: Tensor = torch.zeros(3, 16, 16)
    with pytest.raises(InvalidArgument, match="layer") as caught:
        Saliency("grad_cam", layer=image)
    assert len(str(caught.value)) < 200
