"""Where a network looks, in maps that are fine enough to tell: which method, and of which layer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import OuzelError
from ouzel.models import Model, Preprocessing
from ouzel.saliency import Explainer, Saliency
from ouzel.saliency.layer_method import FINE


@dataclass(frozen=True)
class View:
    """What is drawn: `method` of `layer`, whose maps have `places` (height, width); of a method of pixels, no layer.

    note: why it is not the usual one, or how coarse it is; empty if there is nothing to say.
    """

    method: str
    layer: str = ""
    places: tuple[int, int] | None = None
    note: str = ""

    @property
    def saliency(self) -> dict[str, Any]:
        """Arguments of `Saliency`."""
        return {"method": self.method} | ({"layer": self.layer} if self.layer else {})


@models.computing()
def choose_view(network: nn.Module, preprocessing: Preprocessing) -> View:
    """Choose the maps to draw.

    Grad-CAM of the layer that it is usually drawn for. Where that has fewer than 6 places along an edge, of the last
    one that has so many and that everything flows through: what is removed or left by such maps moves the answer as
    much (deletion and insertion), and they can be read. The gradient for networks whose layers have no maps.

    Args:
        network: The tuned one.
        preprocessing: Of its input.
    """
    height, width = preprocessing.input_size
    device = next(network.parameters()).device
    example = torch.zeros(1, preprocessing.channels, height, width, device=device)
    try:
        usual = models.cam_layer(network, example)
    except OuzelError:
        return View("gradient", note="The network has no layer with maps to look at; its gradient is drawn.")
    shapes = {each.name: each.shape for each in models.layers(network, example) if each.shape}
    places = _places(shapes[usual])
    if min(places) >= FINE:
        return View("grad_cam", usual, places)
    coarse = f"At {width} x {height} pixels the last layer, {usual}, has maps of {_size(places)}"
    fine = _last_fine(network, example, shapes)
    if not fine:
        return View("grad_cam", usual, places, f"{coarse}, and no other will do: read them as a direction, no more.")
    finer = _places(shapes[fine])
    return View("grad_cam", fine, finer, f"{coarse}, too coarse to see anything; {fine} has {_size(finer)}.")


def _places(shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of maps (C, h, w)."""
    _, height, width = shape
    return height, width


def _size(places: tuple[int, int]) -> str:
    return f"{places[1]} x {places[0]}"


def _last_fine(network: nn.Module, example: Tensor, shapes: dict[str, tuple[int, ...]]) -> str:
    """The last layer with fine maps that all of the network's answer goes through; empty if there is none."""
    height, width = example.shape[2:]
    order = _order(network, example)
    noise = torch.randn((2, *example.shape[1:]), generator=torch.Generator().manual_seed(0)).to(example)
    for name in reversed(order):
        shape = shapes.get(name, ())
        if len(shape) != 3 or min(shape[1:]) < FINE or shape[1] * width != shape[2] * height:
            continue
        if _is_pooling(network.get_submodule(name)):  # it may have enlarged a coarse map
            continue
        if _all_flows_through(network, name, noise):
            return name
    return ""


def _is_pooling(module: nn.Module) -> bool:
    return type(module).__module__ == nn.MaxPool2d.__module__  # torch.nn.modules.pooling holds them all, nothing else


def _order(network: nn.Module, example: Tensor) -> list[str]:
    """Names of the modules that run once, as they end."""
    ended: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: ended.append(name))
        for name, module in network.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    return [name for name in ended if ended.count(name) == 1]


def _all_flows_through(network: nn.Module, name: str, pair: Tensor) -> bool:
    """Whether the answer depends on the image through this layer alone.

    Then, with the layer's output for one image, another image gets the answer of the first. In a block with a way round
    it does not.
    """
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        kept.append(output.clone())

    def put(_module: nn.Module, _inputs: Any, _output: Any) -> Tensor:
        return kept[0].clone()

    layer = network.get_submodule(name)
    with torch.no_grad():
        handle = layer.register_forward_hook(keep)
        try:
            first = network(pair[:1])
        finally:
            handle.remove()
        handle = layer.register_forward_hook(put)
        try:
            second = network(pair[1:])
        finally:
            handle.remove()
        return torch.equal(first, second) and not torch.equal(first, network(pair[1:]))


class Maps:
    """Saliency of the base, in its own classes, and of the tuned network, both on the base's device."""

    def __init__(self, base: Model, tuned: nn.Module, preprocessing: Preprocessing) -> None:
        device = next(base.network.parameters()).device
        network = copy.deepcopy(tuned).to(device)
        self.view = choose_view(network, preprocessing)
        self._before, self._after = Explainer(base.network), Explainer(network)

    def before(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(K,) logits and the map (H, W) of the class that the base predicts. x: (C, H, W), normalised."""
        return self._of(self._before, x, None)

    def after(self, x: Tensor, target: int | None = None) -> tuple[Tensor, Tensor]:
        """The same of the tuned network, for the predicted class or `target`."""
        return self._of(self._after, x, target)

    def _of(self, explainer: Explainer, x: Tensor, target: int | None) -> tuple[Tensor, Tensor]:
        explanation = explainer(x[None], [Saliency(target=target, **self.view.saliency)])
        return explanation.logits[0].float().cpu(), explanation.maps[0].values[0].float().cpu()
