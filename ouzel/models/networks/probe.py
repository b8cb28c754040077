"""What the layers of a network put out, seen in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ouzel.errors import FailedPrecondition
from ouzel.models.networks.tracking import Tracker


@dataclass(frozen=True)
class Layer:
    """A named module of a network.

    Attributes:
        name: Its path in the network, as `named_modules` has it.
        type: Name of its class.
        shape: Of one row's output, without the batch; None if the layer did not run or gave no one tensor.
    """

    name: str
    type: str
    shape: tuple[int, ...] | None = None


def layers(network: nn.Module, example: Tensor | None = None) -> tuple[Layer, ...]:
    """List every named module but the network itself. Nobody else may run the network meanwhile.

    Args:
        network: Is run once if there is an example.
        example: (B, C, H, W), for the shapes of the outputs.
    """
    shapes = {} if example is None else {name: tuple(out.shape[1:]) for name, out in _outputs(network, example)}
    named = ((name, module) for name, module in network.named_modules() if name)
    return tuple(Layer(name, type(module).__name__, shapes.get(name)) for name, module in named)


def cam_layer(network: nn.Module, example: Tensor, part: str = "") -> str:
    """The layer that Grad-CAM looks at unless told otherwise: `layer4` of a ResNet, `features.29` of VGG-16.

    The rule: of all outputs that are maps of more than one position, channels first or last, leaving out what a pooling
    layer put out, the last to be computed; if several modules hand on that very tensor (a ReLU, its block, its stage),
    the outermost.

    Args:
        network: Is run once.
        example: (B, C, H, W), any input that the network takes.
        part: Name of the module in which the layer is; "" is the whole network.

    Raises:
        FailedPrecondition: The network has no such maps, or goes on to turn them into tokens (vision transformers):
            there somebody has to name a layer.
    """
    image = example[:1].clone()
    with Tracker(image):
        outputs = [one for one in _outputs(network, image) if not part or one[0].startswith(f"{part}.")]
    pooled = {id(out) for name, out in outputs if _is_pooling(network.get_submodule(name))}
    maps = [i for i, (_, out) in enumerate(outputs) if _is_map(out) and id(out) not in pooled]
    if not maps or any(out.ndim == 3 for _, out in outputs[maps[-1] :]):
        raise FailedPrecondition(
            f"layer: {type(network).__name__} has no feature map to look at by default; name a layer", field="layer"
        )
    return outputs[maps[-1]][0]


def _outputs(network: nn.Module, example: Tensor) -> list[tuple[str, Tensor]]:
    """(name, output) of every module that returned a tensor, in the order in which they returned."""
    seen: list[tuple[str, Tensor]] = []  # holds the tensors, so that each keeps its identity

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                seen.append((name, output))

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _is_pooling(module: nn.Module) -> bool:
    return type(module).__module__ == nn.MaxPool2d.__module__  # torch.nn.modules.pooling holds them all, nothing else


def _is_map(out: Tensor) -> bool:
    layout = Tracker.layout(out)
    return out.ndim == 4 and layout is not None and layout.shape[1] * layout.shape[2] > 1
