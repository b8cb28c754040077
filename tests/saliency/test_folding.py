"""Folding BatchNorm never changes what a network computes, and leaves alone what it cannot fold safely."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from ouzel.saliency import Explainer, Saliency
from ouzel.saliency.engine.folding import fold

from . import reference
from .nets import CLASSES, Cnn, images, seeded

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=6), 20),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(num_classes=6), 52),
    "densenet121": (lambda: torchvision.models.densenet121(num_classes=6), 59),  # most of its norms follow a concat
    "tf_efficientnet_lite0": (lambda: timm.create_model("tf_efficientnet_lite0", num_classes=6), 49),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks(name: str) -> None:
    make, count = NETWORKS[name]
    network, x = seeded(make).requires_grad_(False), images(3, size=64)
    folding = fold(network, x[:1])
    folded, affines = folding.network, folding.affines
    assert len(affines) == count
    assert reference.error(folded(x), network(x)) <= 1e-9
    assert [n for n, _ in folded.named_modules()] == [n for n, _ in network.named_modules()]
    assert not any(p.requires_grad for p in folded.parameters())
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) == norms - count


class Two(nn.Module):
    """Two convolutions with BatchNorm; subclasses join them."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.b = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.m, self.n = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.join(x).relu().mean(dim=(2, 3)))

    def join(self, x: Tensor) -> Tensor:
        return self.n(self.b(self.m(self.a(x)).relu()))


class SharedConvolution(Two):
    def join(self, x: Tensor) -> Tensor:
        y = self.m(self.a(x)).relu()
        return self.n(self.b(y)) + self.b(y + 1)


class SharedNorm(Two):
    def join(self, x: Tensor) -> Tensor:
        return self.m(self.b(self.m(self.a(x)).relu()))


class OutputUsedTwice(Two):
    def join(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.n(self.b(self.m(y).relu())) + y


class OutputSplit(Two):
    """The second use gives no tensor, but several."""

    def join(self, x: Tensor) -> Tensor:
        y = self.a(x)
        first, second = y.chunk(2, dim=1)
        return self.n(self.b(self.m(y).relu())) + torch.cat([second, first], dim=1)


class OutputInPlace(Two):
    def join(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y += 1
        return self.n(self.b(self.m(y).relu()))


class SharedWeights(Two):
    """A second convolution holds the same weights, and is not used by the example."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.twin.weight = self.a.weight

    def join(self, x: Tensor) -> Tensor:
        y = super().join(x)
        return y + self.twin(x) if len(x) > 1 else y


class TwoNames(Two):
    def __init__(self) -> None:
        super().__init__()
        self.also_m = self.m

    def join(self, x: Tensor) -> Tensor:
        return self.n(self.b(self.also_m(self.a(x)).relu()))


class ReadsNorm(Two):
    def join(self, x: Tensor) -> Tensor:
        return super().join(x) * self.m.running_var.mean()


class Transposed(Two):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.ConvTranspose2d(3, 6, 3)


class Scripted(Two):
    """A scripted part takes the convolution's output as well, where nobody sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.part = torch.jit.script(nn.Softplus())

    def join(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.m(y) + self.part(y)


class NormWithoutStatistics(Two):
    def __init__(self) -> None:
        super().__init__()
        self.m = nn.BatchNorm2d(6, affine=False)
        self.n = nn.BatchNorm2d(6, affine=False)
        self.n.running_mean = self.n.running_var = None


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.parametrize(
    ("kind", "kept", "names"),
    [
        (Two, (), ["a", "b"]),
        (SharedConvolution, ("n",), ["a"]),
        (SharedNorm, ("m",), []),
        (OutputUsedTwice, ("m",), ["b"]),
        (OutputSplit, ("m",), ["b"]),
        (OutputInPlace, ("m",), ["b"]),
        (SharedWeights, ("m",), ["b"]),
        (TwoNames, ("m", "also_m"), ["b"]),
        (ReadsNorm, ("m", "n"), []),
        (Transposed, ("m",), ["b"]),
        (Scripted, ("m", "n"), []),
        (NormWithoutStatistics, ("n",), ["a"]),
    ],
)
def test_only_what_is_safe(kind: type[Two], kept: tuple[str, ...], names: list[str]) -> None:
    x = images(3)

    def make() -> nn.Module:
        return kind()

    network = _seeded_but(make)
    folding = fold(network, x[:1])
    folded, affines = folding.network, folding.affines
    assert sorted(affines) == names
    for name in kept:
        assert isinstance(folded.get_submodule(name), nn.BatchNorm2d)
    with torch.no_grad():
        assert reference.error(folded(x), network(x)) <= 1e-9


def _seeded_but(make: Callable[[], nn.Module]) -> nn.Module:
    """As `seeded`, where a BatchNorm may have no weights or statistics."""
    torch.manual_seed(0)
    network = make().double().eval().requires_grad_(False)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
                if tensor is not None:
                    tensor.uniform_(0.3, 2)
    return network


def test_of_a_network_in_train_mode() -> None:
    """Explainer folds its copy in eval mode; fold itself leaves a BatchNorm in train mode alone."""
    network, x = seeded(Cnn, nn.ReLU()).train(), images(2)
    assert fold(network, x[:1]).affines == {}
    network = seeded(Cnn, nn.ReLU())
    expected = Explainer(network)(x, [Saliency("gradient")])
    result = Explainer(network.train())(x, [Saliency("gradient")])
    assert reference.error(result.logits, expected.logits) <= 1e-9
    assert reference.error(result.maps[0].values, expected.maps[0].values) <= 1e-9


def test_a_channel_that_the_norm_multiplies_by_nothing() -> None:
    network, x = seeded(Cnn), images(1)
    network.bn2.weight.data[:6] = 0
    by_hand = reference.grad_cam(
        lambda x: network.conv2(torch.max_pool2d(torch.relu(network.bn1(network.conv1(x))), 2)),
        lambda y: network.head(torch.relu(network.bn2(y)).mean(dim=(2, 3))),
        x[0],
        target := Explainer(network)(x, [Saliency("gradient")]).maps[0].target[0],
    )
    values = Explainer(network)(x, [Saliency("grad_cam", target=target.index, layer="conv2")]).maps[0].values[0]
    assert by_hand.amax() > 0
    assert reference.error(values, by_hand) <= 1e-9
