"""A network that runs no further than the layers that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.maximize.engine.fused import can_fuse
from ouzel.maximize.nodes import LOGITS
from ouzel.names import unknown_layer
from ouzel.saliency.engine.folding import Affine, fold


class _Enough(Exception):
    """Raised inside a forward pass when everything wanted has been seen."""


class Truncated:
    """The outputs of some layers of a network, at the price of the pass up to the last of them.

    They are (n, C, h, w) of layers with maps of the image, however the layer keeps them, once `shapes` has looked.

    Works on a frozen copy of its own. LOGITS among the layers is the network's output, for which the pass is whole. Of
    a layer that runs several times in a pass the first output counts. Threads may not share it.

    Args:
        network: To be truncated.
        layers: Their names.

    Raises:
        NotFound: There is no such layer.
        FailedPrecondition: A layer is TorchScript, or the network cannot be copied.
    """

    def __init__(self, network: nn.Module, layers: Collection[str]) -> None:
        # Values are shared, so that a large network takes no memory twice; nothing here changes them. Channels last is
        # faster for nearly every convolution; objective.py lays out the images alike.
        self._network = models.own_copy(network, share=True).to(memory_format=torch.channels_last)
        self._wanted = frozenset(layers)
        named = dict(self._network.named_modules(remove_duplicate=False))
        for layer in self._wanted - {LOGITS}:
            if layer not in named:
                raise unknown_layer(layer, named)
            if isinstance(named[layer], torch.jit.ScriptModule):
                raise FailedPrecondition(f"layer: {layer!r} is TorchScript, which shows no outputs", field="layer")
        self._folded: Mapping[str, Affine] = {}
        self._layouts: dict[str, models.Layout | None] = {}
        self._find_modules()

    def fold(self, example: Tensor) -> None:
        """Fold BatchNorms into convolutions: the same outputs, sooner. example: (1, C, H, W), normalised."""
        if any(isinstance(module, nn.BatchNorm2d) for module in self._network.modules()):
            folded = fold(self._network, example)
            self._folded = folded.affines
            self._network = folded.network.to(memory_format=torch.channels_last)
            self._find_modules()

    def _find_modules(self) -> None:
        named = dict(self._network.named_modules(remove_duplicate=False))
        self._modules = {layer: named[layer] for layer in self._wanted - {LOGITS}}

    def __call__(self, x: Tensor, layers: Collection[str] | None = None) -> dict[str, Tensor]:
        """x: (n, C, H, W), normalised. layers: None is all.

        Raises FailedPrecondition for a layer that did not run or gave no tensor.
        """
        wanted = self._wanted if layers is None else self._wanted.intersection(layers)
        outputs: dict[str, Tensor] = {}
        with self._watched(outputs, wanted):
            try:
                logits = self._network(x)
            except _Enough:
                return outputs
        if LOGITS in wanted:
            outputs[LOGITS] = logits
        for layer in wanted - outputs.keys():
            raise FailedPrecondition(f"layer: {layer!r} does not run, or puts out no tensor", field="layer")
        return outputs

    def convolution(self, layer: str) -> tuple[nn.Conv2d, Affine | None] | None:
        """The layer, if it is a plain convolution, with the BatchNorm that was folded into it."""
        module = self._modules.get(layer)
        if not isinstance(module, nn.Conv2d) or not can_fuse(module):
            return None
        return module, self._folded.get(layer)

    def before(self, x: Tensor, layer: str) -> Tensor:
        """What goes into `layer`, at the price of the pass up to it. Raises FailedPrecondition if it does not run."""
        seen: list[Tensor] = []

        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0])
            raise _Enough

        handle = self._modules[layer].register_forward_pre_hook(hook)
        try:
            self._network(x)
        except _Enough:
            return seen[0]
        finally:
            handle.remove()
        raise FailedPrecondition(f"layer: {layer!r} does not run", field="layer")

    def shapes(self, x: Tensor, own: tuple[int, int] | None = None) -> dict[str, tuple[int, ...]]:
        """Shape of each layer's output for one row: (C, h, w) or (C,), or what it is if neither is in it.

        Args:
            x: (n, C, H, W), normalised.
            own: The size that the network was made for.

        Raises:
            InvalidArgument: The network cannot take inputs of this size, or a layer's output is none of that.
        """
        image = x[:1].clone()
        try:
            with torch.no_grad(), models.Tracker(image):
                outputs = self(image)
        except models.REFUSALS as error:
            shape = (image.shape[1], image.shape[2], image.shape[3])
            raise models.wrong_size(error, self._network, shape, "size", own=own) from error
        self._layouts = {layer: models.Tracker.layout(out) for layer, out in outputs.items() if layer != LOGITS}
        return {layer: self._shape(layer, out) for layer, out in outputs.items()}

    def _shape(self, layer: str, output: Tensor) -> tuple[int, ...]:
        layout = self._layouts.get(layer)
        if layout is not None:
            return layout.shape
        if layer != LOGITS and (len(output) != 1 or output.ndim != 2):  # windows, attentions, or unknown
            raise InvalidArgument(
                f"layer: {layer!r} puts out {tuple(output.shape)} for one image, no maps of channels", field="layer"
            )
        return tuple(output.shape[1:])

    @contextmanager
    def _watched(self, outputs: dict[str, Tensor], wanted: Collection[str]) -> Iterator[None]:
        def watch(layer: str) -> Callable[..., Tensor | None]:
            def hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
                if not isinstance(output, Tensor) or layer in outputs:
                    return None
                last = len(outputs) == len(wanted) - 1
                plain = self._plain(layer, output)
                layout = self._layouts.get(layer)
                outputs[layer] = plain if layout is None else layout.maps(plain)
                if last:
                    raise _Enough
                # A copy goes on: the next module may overwrite its input in place. What was seen keeps its gradient.
                return output.clone()

            return hook

        handles = [self._modules[layer].register_forward_hook(watch(layer)) for layer in set(wanted) - {LOGITS}]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _plain(self, layer: str, output: Tensor) -> Tensor:
        """What a convolution gave before a BatchNorm was folded into it; 0 where that multiplied by 0."""
        if layer not in self._folded:
            return output
        affine = self._folded[layer]
        inverse = torch.where(affine.scale == 0, 0, 1 / affine.scale).to(output)
        return (output - affine.shift.to(output)) * inverse
