"""What a private copy takes off, keeps and refuses, and that what is explained is the plain network."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.maximize import Channel, Pixel, maximize
from ouzel.saliency import Explainer, Saliency

pytestmark = pytest.mark.filterwarnings("ignore")
METHODS = ("gradient", "guided", "grad_cam", "guided_grad_cam", "rise")


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()


def replaced(place: int, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    network = plain()
    network[place] = change(network[place])
    return network


def compiled_twice() -> nn.Module:
    return torch.compile(replaced(3, torch.compile))


def compiled_in_place() -> nn.Module:
    network = plain()
    network.compile()
    network[3].forward = torch.compile(network[3].forward)
    return network


def pruned() -> nn.Module:
    network = plain()
    prune.l1_unstructured(network[0], "weight", 0.5)
    prune.l1_unstructured(network[6], "weight", 0.3)
    return network


def settled(network: nn.Module, shape: tuple[int, ...] = (1, 3, 12, 12)) -> nn.Module:
    """In training mode for a while: weights are then results of a computation with a graph."""
    network.train()(torch.rand(4, *shape[1:], generator=torch.Generator().manual_seed(3)))
    return network


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "compiled": lambda: torch.compile(plain()),
    "compiled inside": lambda: replaced(3, torch.compile),
    "compiled twice": compiled_twice,
    "compiled in place": compiled_in_place,
    "DataParallel": lambda: nn.DataParallel(torch.compile(plain())),
    "weight_norm": lambda: settled(replaced(0, weight_norm)),
    "weight_norm, parametrized": lambda: settled(replaced(0, parametrizations.weight_norm)),
    "spectral_norm": lambda: settled(replaced(0, spectral_norm)),
    "spectral_norm, parametrized": lambda: settled(replaced(0, parametrizations.spectral_norm)),
    "pruned": lambda: settled(pruned()),
    "traced by fx": lambda: fx.symbolic_trace(plain()),
}


def by_hand(name: str) -> nn.Module:
    """The plain network of the weights that the other one has in eval mode, read off while it runs."""
    network = MAKERS[name]().eval()
    inner = plain()
    source = network
    while hasattr(source, "_orig_mod") or hasattr(source, "module"):
        source = getattr(source, "_orig_mod", None) or source.module
    if "norm" in name or name == "pruned":
        source(torch.rand(1, 3, 12, 12))  # old hooks compute the weight in a pass
        for place in (0, 6):
            inner[place].weight = nn.Parameter(source[place].weight.detach().clone())
            inner[place].bias = nn.Parameter(source[place].bias.detach().clone())
        inner[1].load_state_dict(source[1].state_dict())
    return inner.eval()


@pytest.fixture(scope="module", autouse=True)
def quiet() -> None:
    logging.getLogger("torch").setLevel(logging.ERROR)


@pytest.mark.parametrize("name", MAKERS)
def test_explained_like_the_plain_network(name: str) -> None:
    network, expected = MAKERS[name](), by_hand(name)
    names = [key for key, _ in network.named_parameters()]
    mode = network.training
    x = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    extra = {"rise": {"masks": 4}, "grad_cam": {"layer": "3.1"}, "guided_grad_cam": {"layer": "3.0"}}
    asked = [Saliency(method, 1, **extra.get(method, {})) for method in METHODS]
    ours, theirs = Explainer(network)(x, asked), Explainer(expected)(x, asked)
    assert torch.allclose(ours.logits, expected(x), atol=1e-5)
    for one, other in zip(ours.maps, theirs.maps, strict=True):
        assert one.parameters == other.parameters
        assert float(other.values.abs().max()) > 0
        assert torch.allclose(one.values, other.values, atol=1e-4 * float(other.values.abs().max()))
    assert [key for key, _ in network.named_parameters()] == names
    assert network.training == mode
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ["compiled inside", "weight_norm", "pruned"])
def test_maximized_like_the_plain_network(name: str) -> None:
    ours, theirs = (
        maximize(network, [Channel("3", 2)], recipe=Pixel(steps=3), size=(12, 12)).visualizations[0]
        for network in (MAKERS[name](), by_hand(name))
    )
    assert ours.activation == pytest.approx(theirs.activation, rel=1e-4)
    assert torch.equal(ours.image, theirs.image)


def converted() -> nn.Module:
    network = plain()
    network.qconfig = torch.ao.quantization.get_default_qconfig("x86")
    prepared = torch.ao.quantization.prepare(network)
    prepared(torch.rand(1, 3, 12, 12))
    return torch.ao.quantization.convert(prepared)


class Decorated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()

    @torch.compile
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Beside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()
        self.quick = torch.compile(lambda x: x * 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.quick(x))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "quantized, dynamically": (
        lambda: torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear}, dtype=torch.qint8),
        "layer '6' .* is quantized",
    ),
    "quantized": (converted, "is quantized"),
    "decorated": (Decorated, "has a forward of torch.compile"),
    "compiled function": (Beside, "has a quick of torch.compile"),
    "without values": (lambda: nn.Sequential(nn.LazyConv2d(3, 3), nn.Flatten()), "has no values yet"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_words(name: str) -> None:
    make, message = REFUSED[name]
    x = torch.rand(1, 3, 12, 12)
    for call in (
        lambda: Explainer(make())(x, [Saliency("guided")]),
        lambda: maximize(make(), [Channel("0", 0)], recipe=Pixel(steps=1), size=(12, 12)),
    ):
        with pytest.raises(FailedPrecondition, match=message) as caught:
            call()
        assert caught.value.field == "model"


def test_a_copy_is_frozen_and_may_share_memory() -> None:
    network = plain().train()
    own, shared = models.own_copy(network), models.own_copy(network, share=True)
    assert not own.training
    assert not any(parameter.requires_grad for parameter in own.parameters())
    assert own[0].weight.data_ptr() != network[0].weight.data_ptr() == shared[0].weight.data_ptr()
    before = copy.deepcopy(network.state_dict())
    own[0].weight.zero_()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
