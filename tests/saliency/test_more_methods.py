"""The methods of several passes and those of a layer, against plain re-implementations and against captum."""

from __future__ import annotations

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ouzel.saliency import METHODS, Explainer, Saliency
from ouzel.saliency.baselines import blurred
from ouzel.saliency.methods.integrated_gradients import quadrature
from ouzel.saliency.methods.rise import Rise
from ouzel.saliency.random_masks import random_masks

from .nets import CLASSES, Cnn, images, seeded
from .reference import error

TARGET = 3
EXACT = 1e-9
CAPTUM = 1e-6  # parts of it reckon in single precision


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return seeded(Cnn, nn.ReLU())


@pytest.fixture(scope="module")
def explainer(network: nn.Module) -> Explainer:
    return Explainer(network)


def raw(explainer: Explainer, x: Tensor, method: str, reduction: str = "none", **parameters: object) -> Tensor:
    return explainer(x, [Saliency(method, target=TARGET, reduction=reduction, **parameters)]).maps[0].values


def score(network: nn.Module, x: Tensor) -> Tensor:
    return network(x)[:, TARGET]


def gradient(network: nn.Module, x: Tensor) -> Tensor:
    """Row by row."""
    rows = []
    for row in x:
        leaf = row[None].detach().clone().requires_grad_()
        rows += torch.autograd.grad(score(network, leaf).sum(), leaf)
    return torch.cat(rows)


def at_layer(network: Cnn, row: Tensor) -> tuple[Tensor, Tensor]:
    """Output of the second BatchNorm and its gradient, for one row."""
    hidden = F.max_pool2d(F.relu(network.bn1(network.conv1(row[None]))), 2)
    activation = network.bn2(network.conv2(hidden)).detach().requires_grad_()
    logits = network.head(F.relu(activation).mean(dim=(2, 3)))
    return activation.detach()[0], torch.autograd.grad(logits[0, TARGET], activation)[0][0]


def enlarged(cam: Tensor, x: Tensor) -> Tensor:
    return F.interpolate(cam[None, None], size=x.shape[-2:], mode="bilinear", align_corners=False)[0, 0]


def test_input_x_gradient(network: nn.Module, explainer: Explainer) -> None:
    x = images(3)
    assert error(raw(explainer, x, "input_x_gradient"), x * gradient(network, x)) <= EXACT
    peer = captum.attr.InputXGradient(network).attribute(x.clone().requires_grad_(), target=TARGET)
    assert error(raw(explainer, x, "input_x_gradient"), peer) <= EXACT


@pytest.mark.parametrize("steps", [1, 5, 32])
@pytest.mark.parametrize("baseline", ["black", "white", "mean", "blur"])
def test_integrated_gradients(network: nn.Module, explainer: Explainer, baseline: str, steps: int) -> None:
    x = images(2)
    start = {
        "black": torch.zeros_like(x),
        "white": torch.ones_like(x),
        "mean": x.mean(dim=(2, 3), keepdim=True).expand_as(x),
        "blur": blurred(x),
    }[baseline]
    expected = torch.zeros_like(x)
    for place, weight in zip(*quadrature(steps), strict=True):
        expected += weight * (x - start) * gradient(network, start + place * (x - start))
    request = Saliency("integrated_gradients", TARGET, "none", baseline=baseline, steps=steps)
    result = explainer(x, [request]).maps[0]
    assert error(result.values, expected) <= EXACT
    ends = score(network, x) - score(network, start)
    gap = (expected.sum(dim=(1, 2, 3)) - ends).abs()
    torch.testing.assert_close(result.measures["completeness_gap"].double(), gap, atol=1e-6, rtol=1e-4)
    peer = captum.attr.IntegratedGradients(network).attribute(x, start, target=TARGET, n_steps=steps)
    assert error(result.values, peer) <= CAPTUM


def test_integrated_gradients_become_complete(explainer: Explainer) -> None:
    requests = [Saliency("integrated_gradients", TARGET, steps=steps) for steps in (2, 256)]
    coarse, fine = explainer(images(4), requests).maps
    assert fine.measures["completeness_gap"].max() < 0.05 * coarse.measures["completeness_gap"].max()


@pytest.mark.parametrize("of", ["gradient", "guided", "integrated_gradients"])
def test_smoothgrad_is_the_mean_over_its_noise(explainer: Explainer, of: str) -> None:
    x = images(2)
    generator = torch.Generator().manual_seed(5)
    noises = [torch.randn(1, *x.shape[1:], generator=generator).double() * 0.2 for _ in range(6)]
    inner = {"steps": 8} if of == "integrated_gradients" else {}
    expected = torch.stack([raw(explainer, x + noise, of, **inner) for noise in noises]).mean(dim=0)
    values = raw(explainer, x, "smoothgrad", of=of, samples=6, noise=0.2, seed=5)
    assert error(values, expected) <= 1e-7  # noise is drawn in float32
    assert not torch.equal(values, raw(explainer, x, "smoothgrad", of=of, samples=6, noise=0.2, seed=6))


@pytest.mark.parametrize("method", ["grad_cam_plus_plus", "layer_cam"])
def test_layer_methods(network: Cnn, explainer: Explainer, method: str) -> None:
    x = images(3)
    result = raw(explainer, x, method, layer="bn2")
    for row, values in zip(x, result, strict=True):
        activation, slope = at_layer(network, row)
        expected = torch.zeros_like(activation[0])
        for channel, one in zip(activation, slope, strict=True):
            if method == "layer_cam":
                expected += one.clamp(min=0) * channel
                continue
            weight = 0.0
            for value in one.flatten().tolist():
                bottom = 2 * value**2 + float(channel.sum()) * value**3
                weight += value**2 / bottom * max(value, 0) if bottom else 0
            expected += weight * channel
        assert error(values, enlarged(expected.clamp(min=0), x)) <= EXACT


def test_guided_grad_cam(network: nn.Module, explainer: Explainer) -> None:
    x = images(2)
    result = explainer(x, [Saliency("guided_grad_cam", TARGET, "none", layer="bn2")]).maps[0]
    cam, guided = raw(explainer, x, "grad_cam", layer="bn2"), raw(explainer, x, "guided")
    assert error(result.values, guided * cam[:, None]) <= EXACT
    assert result.rectified == 2
    assert result.caveats


@pytest.mark.parametrize(("window", "stride"), [(4, 4), (8, 4), (5, 3), (16, 16), (1, 1)])
def test_occlusion(network: nn.Module, explainer: Explainer, window: int, stride: int) -> None:
    x = images(1)[..., :12, :]
    if window > 12:
        window = stride = 12
    values = raw(explainer, x, "occlusion", "signed_sum", window=window, stride=stride, fill="black")[0]
    loss, count = torch.zeros(12, 16).double(), torch.zeros(12, 16)
    for top in [*range(0, 12 - window, stride), 12 - window]:
        for left in [*range(0, 16 - window, stride), 16 - window]:
            covered = x.clone()
            covered[:, :, top : top + window, left : left + window] = 0
            loss[top : top + window, left : left + window] += (score(network, x) - score(network, covered))[0].detach()
            count[top : top + window, left : left + window] += 1
    assert error(values, loss / count) <= EXACT
    if (12 - window) % stride == 0 and (16 - window) % stride == 0:  # where captum's windows end at the edge too
        peer = captum.attr.Occlusion(network).attribute(x, (3, window, window), (3, stride, stride), 0, target=TARGET)
        assert error(values, peer[0, 0]) <= CAPTUM


def masks_of_rise(count: int, cells: int, keep: float, seed: int, height: int, width: int) -> Tensor:
    """(count, height, width), a mask at a time."""
    generator = torch.Generator().manual_seed(seed)
    cell = (-(-height // cells), -(-width // cells))
    masks = []
    for _ in range(count):
        grid = (torch.rand(1, 1, cells, cells, generator=generator) < keep).float()
        size = ((cells + 1) * cell[0], (cells + 1) * cell[1])
        mask = F.interpolate(grid, size=size, mode="bilinear", align_corners=False)[0, 0]
        down, across = (int(torch.randint(extent, (), generator=generator)) for extent in cell)
        masks.append(mask[down : down + height, across : across + width])
    return torch.stack(masks)


def test_rise(network: nn.Module, explainer: Explainer) -> None:
    x = images(2)
    expected = torch.zeros(2, 16, 16).double()
    for mask in masks_of_rise(40, 7, 0.5, 3, 16, 16).double():
        expected += network(x * mask).softmax(dim=1)[:, TARGET, None, None].detach() * mask
    assert error(raw(explainer, x, "rise", "signed_sum", masks=40, seed=3), expected / 40 / 0.5) <= EXACT


def test_masks_of_rise_show_what_they_should() -> None:
    drawn = torch.cat(list(random_masks(Rise(masks=2000, seed=0, cells=5, keep=0.3), torch.zeros(1, 1, 33, 47), 300)))
    assert torch.equal(drawn, masks_of_rise(2000, 5, 0.3, 0, 33, 47))
    assert drawn.min() >= 0
    assert drawn.max() <= 1 + 1e-6
    assert (drawn.mean(dim=0) - 0.3).abs().max() < 0.06


def few_passes(method: str) -> dict[str, object]:
    parameters: dict[str, dict[str, object]] = {
        "occlusion": {"window": 8, "stride": 8},
        "rise": {"masks": 4},
        "smoothgrad": {"samples": 2},
        "integrated_gradients": {"steps": 3},
    }
    return parameters.get(method, {})


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(sorted(METHODS)),
    rows=st.integers(1, 4),
    channels=st.sampled_from([1, 3]),
    height=st.integers(12, 20),
    width=st.integers(12, 20),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    reduction=st.sampled_from(["max_abs", "sum_abs", "signed_sum", "none"]),
    smooth=st.booleans(),
    data=st.data(),
)
def test_every_method_takes_every_shape(
    method: str,
    rows: int,
    channels: int,
    height: int,
    width: int,
    dtype: torch.dtype,
    reduction: str,
    smooth: bool,
    data: st.DataObject,
) -> None:
    """And a row's map is that of the row alone, whatever the others are and ask for."""
    network = seeded(Cnn, nn.SiLU() if smooth else nn.ReLU(), channels).to(dtype)
    parameters = few_passes(method) | ({"variant": "smooth"} if smooth and "guided" in method else {})
    targets = data.draw(st.lists(st.integers(0, CLASSES - 1), min_size=rows, max_size=rows))
    x = torch.rand(rows, channels, height, width, dtype=dtype)
    explainer = Explainer(network)
    result = explainer(x, [Saliency(method, targets, reduction, **parameters)])
    values = result.maps[0].values
    assert values.dtype == dtype
    assert values.isfinite().all()
    layer_map = method in ("grad_cam", "grad_cam_plus_plus", "layer_cam")
    planes = (
        (rows, 1 if method in ("occlusion", "rise") else channels) if reduction == "none" and not layer_map else (rows,)
    )
    assert values.shape == (*planes, height, width)
    assert result.logits.shape == (rows, CLASSES)
    if dtype == torch.float64:
        row = data.draw(st.integers(0, rows - 1))
        alone = explainer(x[row : row + 1], [Saliency(method, targets[row], reduction, **parameters)]).maps[0].values
        torch.testing.assert_close(values[row], alone[0], rtol=0, atol=EXACT * max(1, float(alone.abs().amax())))
