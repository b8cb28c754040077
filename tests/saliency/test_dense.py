"""Targets over regions, of networks that answer each pixel: every method once more, plainly, one image at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.saliency import METHODS, Box, Contrast, Explainer, Mask, Pixel, Rank, Saliency, Top, Within

from . import reference
from .nets import images, seeded
from .reference import error
from .test_counts import Operators, looks
from .test_more_methods import enlarged, masks_of_rise

CLASSES, SIZE = 4, 16
EXACT = 1e-9
PARAMETERS: dict[str, dict[str, Any]] = {
    "smoothgrad": {"samples": 3, "noise": 0.2, "seed": 5},
    "integrated_gradients": {"steps": 4},
    "occlusion": {"window": 8, "stride": 8, "fill": "black"},
    "rise": {"masks": 6, "seed": 3},
}


class Segmenter(nn.Module):
    """Strided convolutions and back, with a way round."""

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        deep = nn.Conv2d(8, 12, 3, padding=1, stride=2)
        self.backbone = nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU(), deep, nn.BatchNorm2d(12), nn.ReLU())
        self.head = nn.Conv2d(15, CLASSES, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self.backbone(x), x)

    def answer(self, features: Tensor, x: Tensor) -> Tensor:
        up = F.interpolate(features, size=x.shape[2:], mode="bilinear", align_corners=False)
        return self.head(torch.cat([up, x], dim=1))


def pictures(rows: int) -> Tensor:
    """Patches of colour, so that several classes are predicted."""
    coarse = torch.rand(rows, 3, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return F.interpolate(coarse, size=(SIZE, SIZE), mode="nearest") * 0.8 + images(rows) * 0.2


@pytest.fixture(scope="module")
def network() -> Segmenter:
    network = seeded(Segmenter)
    with torch.no_grad():
        network.head.weight.mul_(6)
        network.head.bias.copy_(-network(pictures(4)).mean(dim=(0, 2, 3)))  # no class has all pixels
    return network


@pytest.fixture(scope="module")
def explainer(network: nn.Module) -> Explainer:
    explainer = Explainer(network)
    prepared = explainer.prepare(pictures(1)[0])
    object.__setattr__(prepared, "most_rows", 10**6)  # all further inputs in one pass
    return explainer


# -- a slow reference --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plain:
    """A target of one image, spelled out: the class, the one that is subtracted, and the places of the region."""

    index: int
    minus: int | None
    places: list[tuple[int, int]]

    @classmethod
    def of(cls, network: nn.Module, row: Tensor, target: Any) -> Plain:
        with torch.no_grad():
            logits = network(row[None])[0].tolist()
        best = {}
        for y in range(SIZE):
            for x in range(SIZE):
                values = [plane[y][x] for plane in logits]
                best[y, x] = values.index(max(values))
        region = target.region if isinstance(target, Within) else None
        inner = target.target if isinstance(target, Within) else target
        given = [place for place in best if region is None or inside(region, *place)]
        if inner is None:
            inner = Rank(0)
        if isinstance(inner, Rank):
            classes = [best[place] for place in given]
            inner = sorted(range(CLASSES), key=lambda one: (-classes.count(one), one))[inner.place]
        index, minus = (inner.a, inner.b) if isinstance(inner, Contrast) else (inner, None)
        return cls(index, minus, [place for place in given if region is not None or best[place] == index])

    def score(self, logits: Tensor) -> Tensor:
        """Of (1, K, H, W), a pixel at a time."""
        total = logits.new_zeros(())
        for y, x in self.places:
            total = total + logits[0, self.index, y, x]
            if self.minus is not None:
                total = total - logits[0, self.minus, y, x]
        return total / len(self.places)


def inside(region: Any, y: int, x: int) -> bool:
    match region:
        case Box(left, top, right, bottom):
            return left <= x < right and top <= y < bottom
        case Pixel():
            return (x, y) == (region.x, region.y)
    return region.data[y * SIZE + x] == 1


def gradient(network: nn.Module, row: Tensor, plain: Plain) -> Tensor:
    x = row[None].detach().clone().requires_grad_()
    plain.score(network(x)).backward()
    assert x.grad is not None
    return x.grad[0]


def at_backbone(network: Segmenter, row: Tensor, plain: Plain) -> tuple[Tensor, Tensor]:
    activation = network.backbone(row[None]).detach().requires_grad_()
    (slope,) = torch.autograd.grad(plain.score(network.answer(activation, row[None])), activation)
    return activation.detach()[0], slope[0]


def layer_map(method: str, network: Segmenter, row: Tensor, plain: Plain) -> Tensor:
    activation, slope = at_backbone(network, row, plain)
    total = torch.zeros_like(activation[0])
    for channel, one in zip(activation, slope, strict=True):
        if method == "layer_cam":
            total += one.clamp(min=0) * channel
        elif method == "grad_cam_plus_plus":
            bottom = 2 * one**2 + channel.sum() * one**3
            share = torch.where(bottom != 0, one**2 / bottom, 0.0)
            total += (share * one.clamp(min=0)).sum() * channel
        else:
            total += one.mean() * channel
    return enlarged(total.clamp(min=0), row)


def expected(method: str, network: Segmenter, row: Tensor, plain: Plain) -> Tensor:
    """(C, H, W), or (H, W) of methods without channels."""
    guided = reference.guided_copy(network)
    match method:
        case "gradient":
            return gradient(network, row, plain)
        case "guided":
            return gradient(guided, row, plain)
        case "input_x_gradient":
            return row * gradient(network, row, plain)
        case "integrated_gradients":
            places, weights = np.polynomial.legendre.leggauss(4)
            points = [(p + 1) / 2 for p in places]
            return sum(w / 2 * row * gradient(network, p * row, plain) for p, w in zip(points, weights, strict=True))  # type: ignore[return-value]
        case "smoothgrad":
            generator = torch.Generator().manual_seed(5)
            noises = [torch.randn(row.shape, generator=generator).double() * 0.2 for _ in range(3)]
            return sum(gradient(network, row + noise, plain) for noise in noises) / 3  # type: ignore[return-value]
        case "guided_grad_cam":
            return gradient(guided, row, plain) * layer_map("grad_cam", network, row, plain)
        case "occlusion":
            loss = torch.zeros_like(row[0])
            for top in (0, 8):
                for left in (0, 8):
                    covered = row.clone()
                    covered[:, top : top + 8, left : left + 8] = 0
                    lost = plain.score(network(row[None])) - plain.score(network(covered[None]))
                    loss[top : top + 8, left : left + 8] = lost.detach()
            return loss
        case "rise":
            total = torch.zeros_like(row[0])
            for mask in masks_of_rise(6, 7, 0.5, 3, SIZE, SIZE).double():
                total += plain.score(network((row * mask)[None]).softmax(dim=1)).detach() * mask
            return total / 6 / 0.5
    return layer_map(method, network, row, plain)


def a_mask(seed: int) -> Mask:
    return Mask.of(torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) < 0.2)


# One target per row, each row with another kind of region.
TARGETS: dict[str, list[Any]] = {
    "predicted": [None, Rank(1), None],
    "of a class": [0, 1, 2],
    "regions": [Within(3, Box(2, 1, 9, 6)), Within(0, Pixel(15, 4)), Within(1, a_mask(0))],
    "predicted in regions": [Within(None, Box(0, 0, 5, 16)), Within(None, Pixel(7, 7)), Within(Rank(1), a_mask(1))],
    "contrasts": [Contrast(0, 2), Within(Contrast(1, 3), a_mask(2)), Within(Contrast(2, 0), Pixel(0, 0))],
    "mixed": [1, Within(2, Box(3, 3, 4, 16)), None],
}


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_every_target(method: str, targets: str, network: Segmenter, explainer: Explainer) -> None:
    x, asked = pictures(3), TARGETS[targets]
    request = Saliency(method, asked, "none", **PARAMETERS.get(method, {}))
    result = explainer(x, [request])
    (made,) = result.maps
    for row, target in enumerate(asked):
        plain = Plain.of(network, x[row], target)
        assert plain.places, "the picture does not fit the test"
        told = made.target[row]  # type: ignore[index]
        assert (told.index, told.minus) == (plain.index, plain.minus)
        assert told.area == pytest.approx(len(plain.places) / SIZE**2)
        wanted = expected(method, network, x[row], plain)
        values = made.values[row][0] if method in ("occlusion", "rise") else made.values[row]
        assert error(values, wanted) <= (1e-7 if method == "smoothgrad" else EXACT)
        alone = explainer(x[row : row + 1], [request.with_target(target)]).maps[0].values[0]
        assert error(made.values[row], alone) <= EXACT
    assert result.logits.shape == (3, CLASSES, SIZE, SIZE)


def test_several_targets_of_one_row_share_its_forward_pass(network: Segmenter, explainer: Explainer) -> None:
    x = pictures(2)
    requests = [Saliency("gradient", Top(2), "none"), Saliency("grad_cam", Within(2, Box(0, 0, 8, 8)))]
    calls = []
    handle = explainer.prepare(x[0]).network.register_forward_hook(lambda *_: calls.append(1))
    try:
        first, second, cam = explainer(x, requests).maps
    finally:
        handle.remove()
    assert len(calls) == 1
    for row in range(2):
        for made, target in ((first, Rank(0)), (second, Rank(1))):
            wanted = gradient(network, x[row], Plain.of(network, x[row], target))
            assert error(made.values[row], wanted) <= EXACT
        wanted = layer_map("grad_cam", network, x[row], Plain.of(network, x[row], requests[1].target))
        assert error(cam.values[row], wanted) <= EXACT


def test_background_comes_after_all_that_is_there(network: Segmenter) -> None:
    x = pictures(1)
    with torch.no_grad():
        counts = network(x).argmax(dim=1).flatten().bincount(minlength=CLASSES)
    order = sorted(range(CLASSES), key=lambda one: (-int(counts[one]), one))
    named = Explainer(network)
    named.labels = tuple("__Background__" if one == order[0] else f"class {one}" for one in range(CLASSES))
    there = [one for one in order if counts[one]]
    maps = named(x, [Saliency("gradient", Top(len(there)))]).maps
    assert [one.target[0].index for one in maps] == [*there[1:], there[0]]  # type: ignore[index]


def test_a_class_that_is_nowhere_is_refused_in_its_own_row(network: Segmenter) -> None:
    without = copy.deepcopy(network)
    with torch.no_grad():
        without.head.bias[3] -= 1000
    explainer = Explainer(without)
    x = pictures(3)
    explainer.prepare(x[0])
    explainer.labels = ("sky", "cat", "dog", "owl")
    rows = [
        [Saliency("rise", masks=2), Saliency("gradient", target)] for target in (None, "owl", Within(3, Pixel(3, 3)))
    ]
    first, second, third = explainer.forward(x, rows).explain()
    assert isinstance(second, FailedPrecondition)
    assert second.field == "saliency[1].target"
    told = "saliency[1].target: class 3 'owl' is predicted nowhere in this image, so there is no region to explain"
    assert str(second).startswith(told)
    assert isinstance(first, list)
    assert isinstance(third, list)
    plain = Plain.of(without, x[2], rows[2][1].target)
    values = third[1].values
    assert error(values, reference.max_abs(gradient(without, x[2], plain))) <= EXACT
    with pytest.raises(FailedPrecondition, match="rank 3: fewer classes are predicted"):
        explainer(x, [Saliency("gradient", Rank(3))])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Within(0, Box(0, 0, 17, 3)), "box 0, 0, 17, 3 is not a part of the model's input, 16 x 16 pixels"),
        (Within(0, Box(5, 0, 5, 3)), "box 5, 0, 5, 3 is not a part"),
        (Within(0, Box(-1, 0, 5, 3)), "is not a part"),
        (Within(0, Box(0.5, 0, 5, 3)), "in whole pixels"),  # type: ignore[arg-type]
        (Within(0, Pixel(16, 0)), "pixel 16, 0 is not a part"),
        (Within(0, Pixel(True, 0)), "is not a part"),
        (Within(0, Mask(b"\1" * 12, (3, 4))), "a mask of 4 x 3 pixels; the model's input has 16 x 16"),
        (Within(0, Mask(bytes(256), (16, 16))), "the mask is empty"),
        (Within(0, "mask.png"), "'mask.png' is neither a box, a pixel nor a mask"),  # type: ignore[arg-type]
        (Within(9, Pixel(1, 1)), "9 is not an integer in 0..3"),
        (Within(Within(0, Pixel(1, 1)), Pixel(1, 1)), "neither an index"),  # type: ignore[arg-type]
        (Rank(0, Box(0, 0, 0, 0)), "is not a part"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_regions_that_are_none_are_refused(explainer: Explainer, target: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        explainer(pictures(1), [Saliency("gradient", target)])
    assert caught.value.field == "saliency[0].target"
    assert message in str(caught.value)


def test_a_mask_has_two_axes() -> None:
    with pytest.raises(InvalidArgument, match=r"\(3, 16, 16\) is not \(height, width\)"):
        Mask.of(torch.ones(3, 16, 16))


def test_a_classifier_has_no_regions() -> None:
    classifier = Explainer(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)))
    with pytest.raises(InvalidArgument, match="a region is for segmentation models"):
        classifier(images(1, dtype=torch.float32), [Saliency("gradient", Within(0, Pixel(0, 0)))])


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (nn.Conv2d(3, 4, 3, stride=2, padding=1), r"\(1, 4, 8, 8\)"),
        (nn.Conv2d(3, 1, 1), r"\(1, 1, 16, 16\)"),
    ],
)
def test_what_is_no_segmentation_network_is_refused(network: nn.Module, told: str) -> None:
    with pytest.raises(FailedPrecondition, match=told + r" for one image.*\(1, classes, 16, 16\)"):
        Explainer(network)(images(1, dtype=torch.float32), [Saliency("gradient")])


def test_the_layer_of_grad_cam_is_the_backbones_last(explainer: Explainer) -> None:
    (made,) = explainer(pictures(1), [Saliency("grad_cam")]).maps
    assert made.parameters["layer"] == "backbone.5"
    plain = Explainer(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)).double())
    with pytest.raises(FailedPrecondition, match="name a layer"):
        plain(pictures(1), [Saliency("grad_cam")])
    assert plain(pictures(1), [Saliency("grad_cam", layer="1")]).maps[0].values.shape == (1, SIZE, SIZE)


@pytest.mark.parametrize("arch", ["unet:timm:test_efficientnet", "torchvision:lraspp_mobilenet_v3_large"])
def test_networks_of_libraries(arch: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = models.build(arch, CLASSES).double()
    for module in network.modules():  # random weights let hardly anything through otherwise
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(0.05)  # type: ignore[union-attr]
    x = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    asked = [Within(1, Pixel(50, 3)), Within(Contrast(2, 0), Box(3, 4, 30, 20))]
    (made,) = Explainer(network)(x, [Saliency("gradient", asked, "none")]).maps
    for row, (target, region) in enumerate(((1, (3, 4, 50, 51)), (2, (4, 20, 3, 30)))):
        leaf = x[row : row + 1].clone().requires_grad_()
        top, bottom, left, right = region
        logits = network(leaf)[0]
        score = logits[target] if row == 0 else logits[2] - logits[0]
        (wanted,) = torch.autograd.grad(score[top:bottom, left:right].mean(), leaf)
        assert error(made.values[row], wanted[0]) <= EXACT
        assert wanted.abs().max() > 1e-6


JOBS: dict[str, Callable[[int], list[Saliency]]] = {
    "predicted": lambda rows: [Saliency("gradient"), Saliency("grad_cam", Rank(1))],
    "regions": lambda rows: [Saliency("gradient", [Within(0, Box(0, 0, 2 + row % 9, 9)) for row in range(rows)])],
    "smoothgrad": lambda rows: [Saliency("smoothgrad", Within(1, a_mask(1)), samples=3)],
    "rise": lambda rows: [Saliency("rise", masks=4)],
}


@pytest.mark.parametrize("job", JOBS)
def test_operators_do_not_depend_on_the_rows_and_nothing_waits(explainer: Explainer, job: str) -> None:
    counts = []
    for rows in (1, 3, 6):
        x, requests = pictures(3).repeat(2, 1, 1, 1)[:rows], JOBS[job](rows)
        explainer(x, requests)
        with Operators() as operators, looks() as seen:
            explainer(x, requests)
        assert seen["tolist"] == 1
        counts.append(sum(operators.calls.values()))
    assert counts[1] == counts[2]
    assert counts[0] == pytest.approx(counts[1], abs=3)
