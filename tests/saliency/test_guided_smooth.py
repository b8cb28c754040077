"""The variant of guided backpropagation for smooth activations: exact, equal to the paper's for ReLU, and labelled."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.saliency import Explainer, ResolvedTarget, Saliency

from . import reference
from .nets import CLASSES, RECTIFIERS, SMOOTH, Cnn, images, seeded


def smooth(target: int = 1, reduction: str = "none") -> Saliency:
    return Saliency("guided", target, reduction, variant="smooth")


@pytest.mark.parametrize("name", SMOOTH)
def test_every_spelling_of_a_smooth_activation(name: str) -> None:
    activation, plainly = SMOOTH[name]
    network, x = seeded(Cnn, activation), images(3)
    by_hand = copy.deepcopy(network)
    del by_hand.act  # where it is a module, a function cannot take its place
    by_hand.act = reference.smooth(plainly)
    assert torch.allclose(network(x.clone()), by_hand(x), rtol=0, atol=1e-12)
    guided, plain = Explainer(network)(x, [smooth(), Saliency("gradient", 1, "none")]).maps
    assert (guided.rectified, plain.rectified) == (2, 0)
    assert guided.parameters == {"variant": "smooth"}
    for row in range(3):
        expected = reference.gradient(by_hand, x[row], ResolvedTarget(1))
        assert reference.error(guided.values[row], expected) <= 1e-9
        assert reference.error(plain.values[row], expected) > 0.1, "the test network does not tell the two apart"
        assert reference.error(plain.values[row], reference.gradient(network, x[row], ResolvedTarget(1))) <= 1e-9


@pytest.mark.parametrize("name", SMOOTH)
def test_without_the_variant_the_error_names_it(name: str) -> None:
    with pytest.raises(FailedPrecondition, match=r"0 rectified activations.*variant smooth") as caught:
        Explainer(seeded(Cnn, SMOOTH[name][0]))(images(2), [Saliency("guided")])
    assert caught.value.field == "saliency[0].method"


@pytest.mark.parametrize("name", ["nn.ReLU", "F.relu inplace", "nn.ReLU6", "clamp_min"])
def test_with_rectifiers_alone_both_variants_are_one(name: str) -> None:
    explainer, x = Explainer(seeded(Cnn, RECTIFIERS[name])), images(2)
    paper, ours = explainer(x, [Saliency("guided", 1, "none"), smooth()]).maps
    assert reference.same_bytes([paper.values], [ours.values])
    assert paper.rectified == ours.rectified == 2


class Mixed(nn.Module):
    """Functions only: F.relu, F.gelu, and a gate of F.hardsigmoid, which is neither."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.gate, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = self.gelu(self.conv2(x)) * F.hardsigmoid(self.gate(x.mean(dim=(2, 3), keepdim=True)))
        return self.head(x.mean(dim=(2, 3)))

    relu = staticmethod(F.relu)
    gelu = staticmethod(F.gelu)


def test_a_mixed_network_says_what_became_of_each_activation() -> None:
    network, x = seeded(Mixed), images(2)
    paper, both, plain = Explainer(network)(
        x, [Saliency("guided", 1, "none"), smooth(), Saliency("gradient", 1, "none")]
    ).maps
    assert (paper.rectified, both.rectified) == (1, 2)
    assert any("1 rectifiers are guided; 1 smooth ones (1 gelu) are not" in caveat for caveat in paper.caveats)
    assert any("variant is smooth" in c and "1 smooth activations (1 gelu)" in c for c in both.caveats)
    assert all(any("sanity check" in caveat for caveat in one.caveats) for one in (paper, both))
    assert plain.caveats == ()
    guided = copy.deepcopy(network)
    guided.relu = reference.rectified
    for row in range(2):
        expected = reference.gradient(guided, x[row], ResolvedTarget(1))
        assert reference.error(paper.values[row], expected) <= 1e-9
    guided.gelu = reference.smooth(F.gelu)
    for row in range(2):
        expected = reference.gradient(guided, x[row], ResolvedTarget(1))
        assert reference.error(both.values[row], expected) <= 1e-9


NETWORKS = {
    "efficientnet_b0 (torchvision)": (lambda: torchvision.models.efficientnet_b0(num_classes=6), 0, "49 silu"),
    "efficientnet_b0 (timm)": (lambda: timm.create_model("efficientnet_b0", num_classes=6), 0, "49 silu"),
    "mobilenet_v3_small": (lambda: torchvision.models.mobilenet_v3_small(num_classes=6), 14, "19 hardswish"),
    "mobilenetv3 (timm)": (lambda: timm.create_model("mobilenetv3_small_100", num_classes=6), 14, "19 hardswish"),
    "convnext": (lambda: timm.create_model("convnext_atto", num_classes=6), 0, "12 gelu"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks(name: str) -> None:
    make, rectifiers, listed = NETWORKS[name]
    network, x = seeded(make), images(1, size=64)
    [guided] = Explainer(network)(x, [smooth(2)]).maps
    expected = reference.guided_gradient(network, x[0], ResolvedTarget(2), smoothly=True)
    assert expected.abs().amax() > 0
    assert reference.error(guided.values[0], expected) <= 1e-6
    assert guided.rectified == rectifiers + int(listed.split()[0])
    assert any(f"{rectifiers} rectifiers are guided" in c and f"({listed})" in c for c in guided.caveats)


def test_methods_that_build_on_guided_offer_the_variant() -> None:
    explainer, x = Explainer(seeded(Cnn, nn.SiLU())), images(2)
    requests = [
        smooth(),
        Saliency("grad_cam", 1, layer="bn2"),
        Saliency("guided_grad_cam", 1, "none", layer="bn2", variant="smooth"),
        Saliency("smoothgrad", 1, "none", of="guided_smooth", samples=3, noise=1e-9),
    ]
    guided, cam, both, mean = explainer(x, requests).maps
    assert reference.error(both.values, guided.values * cam.values[:, None]) <= 1e-9
    assert reference.error(mean.values, guided.values) <= 1e-6
    assert guided.caveats == both.caveats == mean.caveats
    assert guided.rectified == both.rectified == mean.rectified == 2
    for method, parameters in (("guided_grad_cam", {"layer": "bn2"}), ("smoothgrad", {"of": "guided"})):
        with pytest.raises(FailedPrecondition, match="variant smooth"):
            explainer(x, [Saliency(method, **parameters)])


@pytest.mark.parametrize("method", ["guided", "guided_grad_cam"])
def test_unknown_variants(method: str) -> None:
    with pytest.raises(InvalidArgument, match="'rough' is not one of rectifiers, smooth") as caught:
        Saliency(method, variant="rough")
    assert caught.value.field == "parameters.variant"


def test_no_rule_leaks_into_another() -> None:
    """Asked for together, alone, by other rows: always the same bytes."""
    explainer, x = Explainer(seeded(Mixed)), images(3)
    wishes = [[Saliency("gradient", 1), Saliency("guided", 1)], [smooth(), Saliency("gradient", 2)], [smooth(4)]]
    together = explainer.forward(x, wishes).explain()
    for row, requests in enumerate(wishes):
        for place, request in enumerate(requests):
            alone = explainer.forward(x, [[request] if number == row else [] for number in range(3)]).explain()[row]
            assert reference.same_bytes([together[row][place].values], [alone[0].values])
