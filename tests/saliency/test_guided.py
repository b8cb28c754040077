"""Guided backpropagation is exact however a network writes its rectifiers, and refuses where there are none."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from ouzel.errors import FailedPrecondition
from ouzel.saliency import Explainer, ResolvedTarget, Saliency

from . import reference
from .nets import OTHERS, RECTIFIERS, Cnn, Residual, images, seeded

UPPER = {"ReLU6": 6.0, "relu6": 6.0, "Hardtanh": 0.5, "hardtanh": 0.5, "0.5": 0.5, "torch.clamp": 6.0}


def plainly(name: str) -> Callable[[Tensor], Tensor]:
    """What the rectifier of that name computes, guided when differentiated."""
    if name == "clamp, overwritten":
        return lambda x: reference.rectified(x) * 2 + 0.1
    upper = next((bound for part, bound in UPPER.items() if part in name and "keywords" not in name), float("inf"))
    return lambda x: reference.rectified(x, upper)


@pytest.mark.parametrize("name", RECTIFIERS)
def test_every_spelling_of_a_rectifier(name: str) -> None:
    network, x = seeded(Cnn, RECTIFIERS[name]), images(3)
    by_hand = copy.deepcopy(network)
    del by_hand.act  # where it is a module, a function cannot take its place
    by_hand.act = plainly(name)
    assert torch.equal(network(x.clone()), by_hand(x))
    guided, plain = Explainer(network)(x, [Saliency("guided", 1, "none"), Saliency("gradient", 1, "none")]).maps
    assert (guided.rectified, plain.rectified) == (2, 0)
    for row in range(3):
        expected = reference.gradient(by_hand, x[row], ResolvedTarget(1))
        assert reference.error(guided.values[row], expected) <= 1e-9
        assert reference.error(plain.values[row], expected) > 0.1, "the test network does not tell the two apart"
        assert reference.error(plain.values[row], reference.gradient(network, x[row], ResolvedTarget(1))) <= 1e-9


@pytest.mark.parametrize(("kind", "count"), [("post", 3), ("pre", 2), ("sliced", 2)])
def test_connections(kind: str, count: int) -> None:
    """ReLU after a sum; a tensor that feeds a ReLU and a skip; a part of a tensor rectified in place."""
    network, x = seeded(Residual, kind), images(2)
    expected_of = network
    if kind == "sliced":
        expected_of = Sliced(network)
        assert torch.allclose(network(x), expected_of(x), rtol=0, atol=1e-12)
    [guided] = Explainer(network)(x, [Saliency("guided", 2, "none")]).maps
    assert guided.rectified == count
    for row in range(2):
        expected = reference.guided_gradient(expected_of, x[row], ResolvedTarget(2))
        assert reference.error(guided.values[row], expected) <= 1e-9


class Sliced(nn.Module):
    """Residual("sliced") without anything in place."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        x = self.net.conv1(self.net.stem(x))
        x = torch.cat([reference.rectified(x[:, :5]), x[:, 5:]], dim=1)
        x = reference.rectified(self.net.conv2(x), 6.0) / 6
        return self.net.head(x.mean(dim=(2, 3)))


def test_by_hand_layer_by_layer() -> None:
    """No autograd at all: a small network of matrices, differentiated as the paper's figure does it."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2, self.fc3 = nn.Linear(12, 20), nn.Linear(20, 15), nn.Linear(15, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))

    network, x = seeded(Net), images(1, channels=3, size=2)
    with torch.no_grad():
        first = network.fc1(x.flatten(1))[0]
        second = network.fc2(first.relu())
        r = network.fc3.weight[3]
        r = torch.where((second > 0) & (r > 0), r, 0) @ network.fc2.weight
        r = torch.where((first > 0) & (r > 0), r, 0) @ network.fc1.weight
    [guided] = Explainer(network)(x, [Saliency("guided", 3, "none")]).maps
    assert reference.error(guided.values[0], r.view(3, 2, 2)) <= 1e-9


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("variant", ["rectifiers", "smooth"])
def test_refused_without_rectifiers(name: str, variant: str) -> None:
    explainer, x = Explainer(seeded(Cnn, OTHERS[name])), images(2)
    with pytest.raises(FailedPrecondition, match="0 rectified activations") as caught:
        explainer(x, [Saliency("gradient"), Saliency("guided", variant=variant)])
    assert caught.value.field == "saliency[1].method"
    error, maps = explainer.forward(x, [[Saliency("guided")], [Saliency("gradient")]]).explain()
    assert isinstance(error, FailedPrecondition)
    assert isinstance(maps, list)
    assert len(maps) == 1


@pytest.mark.parametrize("variant", ["rectifiers", "smooth"])
@pytest.mark.parametrize("whole", [True, False])
def test_refused_for_torchscript(whole: bool, variant: str) -> None:
    network, x = seeded(Cnn, nn.ReLU()), images(1)
    if whole:
        scripted: nn.Module = torch.jit.trace(network, x)
    else:
        scripted = copy.deepcopy(network)
        scripted.act = torch.jit.script(nn.ReLU())
    explainer = Explainer(scripted)
    with pytest.raises(FailedPrecondition, match="TorchScript") as caught:
        explainer(x, [Saliency("guided", variant=variant)])
    assert caught.value.field == "saliency[0].method"
    [gradient] = explainer(x, [Saliency("gradient", 2, "none")]).maps
    assert reference.error(gradient.values[0], reference.gradient(network, x[0], ResolvedTarget(2))) <= 1e-9


def test_caveat() -> None:
    [guided] = Explainer(seeded(Cnn))(images(1), [Saliency("guided")]).maps
    assert any("sanity check" in caveat for caveat in guided.caveats)


NETWORKS = {
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=6), 17),
    "mobilenet_v3_small": (lambda: torchvision.models.mobilenet_v3_small(num_classes=6), 14),
    "mobilenetv3 (timm)": (lambda: timm.create_model("mobilenetv3_small_100", num_classes=6), 14),
    "densenet121": (lambda: torchvision.models.densenet121(num_classes=6), None),
    "resnetv2 (pre-activation)": (lambda: timm.create_model("resnetv2_50", num_classes=6), 49),
    "resnetv2 (weight-standardised)": (lambda: timm.create_model("resnetv2_50x1_bit", num_classes=6), 49),
    "tf_efficientnet_lite0": (lambda: timm.create_model("tf_efficientnet_lite0", num_classes=6), 33),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks(name: str) -> None:
    make, count = NETWORKS[name]
    network, x = seeded(make), images(1, size=64)
    [guided] = Explainer(network)(x, [Saliency("guided", 2, "none")]).maps
    expected = reference.guided_gradient(network, x[0], ResolvedTarget(2))
    assert reference.error(guided.values[0], expected) <= 1e-6
    assert guided.rectified > 0
    assert count in (None, guided.rectified)
