"""gradient and Grad-CAM against slow re-implementations and captum; targets, reductions, mixed wishes."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam
from captum.attr import Saliency as CaptumSaliency
from torch import Tensor, nn

from ouzel.saliency import REDUCTIONS, Contrast, Explainer, Rank, ResolvedTarget, Saliency, Top

from . import reference
from .nets import CLASSES, Cnn, Residual, images, seeded

BOUND = {torch.float64: 1e-9, torch.float32: 1e-5}
R = ResolvedTarget


def cut(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A Cnn, cut after its second BatchNorm."""

    class Back(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return network.head(torch.relu(x).mean(dim=(2, 3)))

    class Front(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.max_pool2d(torch.relu(network.bn1(network.conv1(x))), 2)
            return network.bn2(network.conv2(x))

    return Front(), Back()


@pytest.mark.parametrize("dtype", BOUND)
def test_gradient_per_row(dtype: torch.dtype) -> None:
    network, x = seeded(Cnn).to(dtype), images(4, dtype=dtype)
    targets = [R(3), R(0), R(1, minus=4), R(2)]
    [gradient] = Explainer(network)(x, [Saliency("gradient", target=[3, 0, Contrast(1, 4), 2])]).maps
    assert gradient.target == tuple(targets)
    for row, target in enumerate(targets):
        expected = reference.max_abs(reference.gradient(network, x[row], target))
        assert reference.error(gradient.values[row], expected) <= BOUND[dtype]


def test_gradient_against_finite_differences() -> None:
    network, x = seeded(Cnn), images(1, size=8)
    [gradient] = Explainer(network)(x, [Saliency("gradient", target=Contrast(0, 2), reduction="none")]).maps
    assert reference.error(gradient.values[0], reference.differences(network, x[0], R(0, minus=2))) <= 1e-6


@pytest.mark.parametrize("dtype", BOUND)
def test_gradient_against_captum(dtype: torch.dtype) -> None:
    network, x = seeded(Residual, "post").to(dtype), images(3, dtype=dtype)
    expected = CaptumSaliency(network).attribute(x.clone(), target=[1, 4, 0], abs=True)
    [gradient] = Explainer(network)(x, [Saliency("gradient", target=(1, 4, 0))]).maps
    assert reference.error(gradient.values, expected.amax(dim=1)) <= BOUND[dtype]


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("layer", ["conv1", "bn1", "conv2", "bn2"])
def test_grad_cam_against_captum(layer: str, dtype: torch.dtype) -> None:
    """Also at convolutions whose BatchNorm the engine folds away."""
    network, x = seeded(Cnn).to(dtype), images(3, dtype=dtype)
    cam = LayerGradCam(network, network.get_submodule(layer)).attribute(x, target=[1, 4, 0], relu_attributions=True)
    expected = LayerAttribution.interpolate(cam, (16, 16), interpolate_mode="bilinear")[:, 0]
    [grad_cam] = Explainer(network)(x, [Saliency("grad_cam", target=[1, 4, 0], layer=layer)]).maps
    assert grad_cam.parameters == {"layer": layer}
    assert expected.abs().amax() > 0
    assert reference.error(grad_cam.values, expected) <= BOUND[dtype]


def test_grad_cam_against_a_network_in_two() -> None:
    network, x = seeded(Cnn, seed=2), images(2)
    front, back = cut(network)
    targets = {**{c: R(c) for c in range(CLASSES)}, Contrast(2, 1): R(2, minus=1)}
    maps = Explainer(network)(x, [Saliency("grad_cam", target=target, layer="bn2") for target in targets]).maps
    shown = 0
    for result, target in zip(maps, targets.values(), strict=True):
        for row in range(2):
            expected = reference.grad_cam(front, back, x[row], target)
            shown += bool(expected.amax() > 0)
            assert reference.error(result.values[row], expected) <= 1e-9
    assert shown >= 6, "too many maps are wholly zero to tell anything"


def test_grad_cam_of_a_layer_that_hands_on_its_input() -> None:
    """The gradient is that of the layer's output alone, not of the skip that leaves before it."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.same, self.head = nn.Conv2d(3, 6, 3), nn.Identity(), nn.Linear(6, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            through = self.same(y)
            return self.head((through.relu_() + 3 * y).mean(dim=(2, 3)))

    network, x = seeded(Net), images(1)
    y = network.conv(x).detach()
    kept = y.clone().requires_grad_()
    network.head((kept.relu() + 3 * y).mean(dim=(2, 3)))[0, 2].backward()
    assert kept.grad is not None
    expected = (kept.grad.mean(dim=(2, 3), keepdim=True) * y).sum(dim=1).relu()
    values = Explainer(network)(x, [Saliency("grad_cam", target=2, layer="same")]).maps[0].values
    expected = torch.nn.functional.interpolate(expected[None], (16, 16), mode="bilinear")[0]
    assert reference.error(values, expected) <= 1e-9


def test_grad_cam_of_a_layer_that_runs_twice_is_of_its_last_run() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3)
            self.head = nn.Linear(6, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.conv(torch.relu(self.conv(self.stem(x))))).mean(dim=(2, 3)))

    network, x = seeded(Net), images(1)
    expected = reference.grad_cam(
        lambda x: network.conv(torch.relu(network.conv(network.stem(x)))),
        lambda y: network.head(torch.relu(y).mean(dim=(2, 3))),
        x[0],
        R(1),
    )
    values = Explainer(network)(x, [Saliency("grad_cam", target=1, layer="conv")]).maps[0].values[0]
    assert reference.error(values, expected) <= 1e-9


def test_default_layer_is_the_last_map() -> None:
    network, x = seeded(Cnn, nn.ReLU()), images(2)
    default, named = Explainer(network)(x, [Saliency("grad_cam"), Saliency("grad_cam", layer="act")]).maps
    assert default.parameters == {"layer": "act"}
    assert reference.same_bytes([default.values], [named.values])


def test_ranks_and_top() -> None:
    network, x = seeded(Cnn), images(3)
    e = Explainer(network)(
        x, [Saliency("gradient"), Saliency("gradient", target=Rank(2)), Saliency("gradient", Top(3))]
    )
    order = network(x).argsort(dim=1, descending=True)
    places = [[target.index for target in m.target] for m in e.maps]
    assert places == [order[:, place].tolist() for place in (0, 2, 0, 1, 2)]
    assert torch.allclose(e.logits, network(x), rtol=0, atol=1e-12)
    assert not e.logits.requires_grad
    for m in e.maps:
        for row in range(3):
            expected = reference.max_abs(reference.gradient(network, x[row], m.target[row]))
            assert reference.error(m.values[row], expected) <= 1e-9


def test_labels() -> None:
    explainer = Explainer(seeded(Cnn))
    explainer.labels = ("cat", "dog", "owl", "crane", "crane")
    x = images(1)
    maps = explainer(x, [Saliency("gradient", target="owl"), Saliency("gradient", target=Contrast("Dog", 2))]).maps
    assert [m.target for m in maps] == [(R(2),), (R(1, minus=2),)]


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions(reduction: str) -> None:
    network, x = seeded(Cnn), images(2)
    [gradient] = Explainer(network)(x, [Saliency("gradient", target=1, reduction=reduction)]).maps
    assert gradient.reduction == reduction
    for row in range(2):
        g = reference.gradient(network, x[row], R(1))
        expected = {
            "max_abs": reference.max_abs(g),
            "sum_abs": g[0].abs() + g[1].abs() + g[2].abs(),
            "signed_sum": g[0] + g[1] + g[2],
            "none": g,
        }[reduction]
        assert reference.error(gradient.values[row], expected) <= 1e-9


ROWS = [
    [Saliency("gradient"), Saliency("guided", target=Contrast(0, 1)), Saliency("grad_cam", layer="conv1")],
    [],
    [Saliency("guided", target=Top(2), reduction="none"), Saliency("gradient", target=4)],
    [Saliency("grad_cam", target=Rank(1)), Saliency("gradient", reduction="signed_sum"), Saliency("gradient")],
]


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("act", ["relu", "clamp"])
def test_a_row_depends_on_its_own_wishes_alone(act: str, dtype: torch.dtype) -> None:
    network = seeded(Cnn, nn.ReLU() if act == "relu" else lambda x: x.clamp(0, 6)).to(dtype)
    network.conv1.weight.data[0] = 0  # a channel that is exactly 0 throughout, where clamp and ReLU differ in slope
    network.bn1.running_mean[0] = network.bn1.bias.data[0] = 0
    network.bn1.bias.data[1:] = 0
    explainer = Explainer(network)
    x = images(4, dtype=dtype)
    together = explainer.forward(x, ROWS).explain()
    for number, maps in enumerate(together):
        assert isinstance(maps, list)
        others_none = [row if place == number else [] for place, row in enumerate(ROWS)]
        alone = explainer.forward(x, others_none).explain()
        assert reference.same_bytes([m.values for m in maps], [m.values for m in alone[number]])
        assert all(alone[other] == [] for other in range(4) if other != number)
        single = explainer(x[number][None], ROWS[number])
        for m, s in zip(maps, single.maps, strict=True):
            assert (m.target,) == s.target
            assert reference.error(m.values, s.values[0]) <= BOUND[dtype]


def test_keep_leaves_out_rows_after_the_prediction() -> None:
    explainer, x = Explainer(seeded(Cnn)), images(4)
    everything = explainer.forward(x, ROWS).explain()
    some = explainer.forward(x, ROWS).explain(keep=[True, True, False, True])
    assert some[1] == some[2] == []
    for row in (0, 3):
        assert reference.same_bytes([m.values for m in some[row]], [m.values for m in everything[row]])
    assert explainer.forward(x, ROWS).explain(keep=[False] * 4) == [[], [], [], []]
    batch = explainer.forward(x, [[]] * 4)
    assert batch.explain() == [[], [], [], []]
    assert torch.allclose(batch.logits, explainer.forward(x, ROWS).logits, rtol=0, atol=1e-12)


def test_identical_batches_give_identical_bytes() -> None:
    explainer, x = Explainer(seeded(Cnn).float()), images(4, dtype=torch.float32)
    first, second = (explainer.forward(x, ROWS) for _ in range(2))
    assert reference.same_bytes([first.logits], [second.logits])
    for a, b in zip(first.explain(), second.explain(), strict=True):
        assert reference.same_bytes([m.values for m in a], [m.values for m in b])
