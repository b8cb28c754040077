"""The engine on tensors that claim to be on a GPU and have no values: nothing is on the wrong device, nothing looks.

`FakeTensorMode` refuses operators whose tensors are on different devices, and whatever asks for a value. Two things
cannot be tried so: pinned memory, and autograd, which would look for a real GPU; stand-ins take their places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from ouzel.saliency import METHODS, Contrast, Explainer, GivenImage, Rank, Saliency, Top, baselines, random_masks
from ouzel.saliency.draws import Draws
from ouzel.saliency.engine.compute import Computed, GroupMaps, classes_of, compute
from ouzel.saliency.engine.forward import Chosen, Forward
from ouzel.saliency.engine.heads import Head, Heads, SharedHead
from ouzel.saliency.engine.layouts import Layouts
from ouzel.saliency.engine.taps import Taps
from ouzel.saliency.engine.work import MapRequest, Work, specs_of
from ouzel.saliency.methods import integrated_gradients, smoothgrad
from ouzel.saliency.transfer import sent

EDGE = 16
FEW: dict[str, dict[str, object]] = {
    "occlusion": {"window": 8, "stride": 8},
    "rise": {"masks": 4},
    "smoothgrad": {"samples": 3},
    "integrated_gradients": {"steps": 3},
}


def network() -> nn.Module:
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 50)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    explainer = Explainer(network())
    explainer.prepare(torch.rand(3, EDGE, EDGE))
    return explainer


@pytest.fixture
def gpu() -> Iterator[None]:
    def no_autograd(_output: Tensor, inputs: Sequence[Tensor], *_: Any, **__: Any) -> list[Tensor]:
        return [torch.empty_like(one) for one in inputs]

    caches = (baselines._colour, integrated_gradients._on_device)
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        mock.patch.object(Tensor, "pin_memory", lambda tensor: tensor),
        mock.patch.object(torch.autograd, "grad", no_autograd),
        mock.patch.object(smoothgrad, "draws", Draws()),
        mock.patch.object(random_masks, "draws", Draws()),
    ):
        yield
    for cache in caches:  # no later test may get a tensor without values
        cache.cache_clear()


def computed(
    explainer: Explainer, rows: Sequence[Sequence[MapRequest]], classes: Sequence[int] = ()
) -> tuple[Work, Computed]:
    """classes: of the heads that answer the rows, if the network is shared."""
    with torch.device("cuda"):
        there = network()
        made = {count: Head(torch.rand(count, 8), torch.rand(count)) for count in classes}
        heads = Heads.of([made[count] for count in classes]) if classes else None
        if heads is not None:
            there[-1] = SharedHead.of(there[-1])
        x = torch.rand(len(rows), 3, EDGE, EDGE)
    taps = Taps(there, {})
    prepared = explainer.prepare(torch.rand(3, EDGE, EDGE))
    prepared = dataclasses.replace(
        prepared, network=there, taps=taps, layouts=Layouts(there, taps, prepared.memory_format)
    )
    work = Work.of(rows)
    forward = Forward(prepared, x, specs_of(work.groups), heads)
    return work, compute(forward, work, sent(classes_of(work), x.device), Chosen(x.device))


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_stays_on_the_device(explainer: Explainer, method: str) -> None:
    parameters = FEW.get(method, {})
    targets = (None, Top(3)), (2, Contrast(1, 2)), (), (Rank(1),)
    requests = [[Saliency(method, target, **parameters) for target in row] for row in targets]
    work, result = computed(explainer, [explainer.plan(row, EDGE, EDGE).maps for row in requests])
    assert {result.logits.device.type, result.figures.device.type} == {"cuda"}
    for group, one in zip(work.groups, result.groups, strict=True):
        assert isinstance(one, GroupMaps)
        assert one.values.device.type == "cuda"
        assert one.values.shape == (len(group.pairs), EDGE, EDGE)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("method", METHODS)
def test_rows_of_several_heads_stay_on_the_device(explainer: Explainer, method: str) -> None:
    requests = [Saliency(method, None, **FEW.get(method, {})), Saliency(method, 0, **FEW.get(method, {}))]
    maps = explainer.plan(requests, EDGE, EDGE).maps
    _, result = computed(explainer, [maps] * 4, classes=(3, 1, 7, 3))
    assert result.logits.shape == (4, 7)
    assert {result.logits.device.type, result.figures.device.type} == {"cuda"}
    assert all(isinstance(one, GroupMaps) and one.values.device.type == "cuda" for one in result.groups)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "baseline", [*baselines.BASELINES, GivenImage.of(torch.zeros(3, EDGE, EDGE), "baseline")], ids=str
)
def test_every_baseline_stays_on_the_device(explainer: Explainer, baseline: str | GivenImage) -> None:
    requests = [
        Saliency("integrated_gradients", steps=3, baseline=baseline),
        Saliency("occlusion", window=8, stride=8, fill=baseline),
    ]
    _, result = computed(explainer, [explainer.plan(requests, EDGE, EDGE).maps] * 2)
    assert all(isinstance(one, GroupMaps) and one.values.device.type == "cuda" for one in result.groups)


@pytest.mark.usefixtures("gpu")
def test_the_make_believe_finds_what_it_is_for() -> None:
    there = torch.rand(2, device="cuda")
    with pytest.raises(DataDependentOutputException):
        there.sum().item()
    with pytest.raises(RuntimeError, match="device"):
        there + torch.rand(2)
