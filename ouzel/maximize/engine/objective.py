"""The gradients of the objective: activations of the nodes, and their gradients with respect to the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from ouzel.maximize.engine import fused
from ouzel.maximize.engine.redirect import Redirected
from ouzel.maximize.engine.truncated import Truncated
from ouzel.maximize.nodes import Readout
from ouzel.maximize.regularizers import alikeness
from ouzel.saliency.engine.folding import Affine

# Rows per pass. More are slower on a CPU, whose caches they leave; measured with VGG-16, ResNet-18, EfficientNet-Lite0.
MOST_ROWS = {"cpu": 4, "cuda": 64}


class ObjectiveGradients:
    """Activations of the nodes, and gradients of the objective with respect to the images.

    Rows come as one batch, `copies` of them for each readout in turn. They go through the network in passes of a few
    rows, those of one layer together, each no further than that layer.

    Args:
        network: Up to the layers of the nodes.
        readouts: How each node is read.
        copies: Images per node.
        normalised: From images in [0, 1] to what the network takes.
        scale: Of the rows per pass.
    """

    def __init__(
        self,
        network: Truncated,
        readouts: Sequence[Readout],
        copies: int,
        normalised: Callable[[Tensor], Tensor],
        scale: float = 1.0,
    ) -> None:
        self._scale = scale
        self._network, self._readouts, self._copies, self._normalised = network, readouts, copies, normalised

    def gradients(self, views: Tensor, diversity: float, *, redirected: bool) -> tuple[Tensor, Tensor]:
        """Activations (n,), and gradients of a loss, (n, C, H, W).

        The loss is lower where activations are higher, and where the copies of a node differ.

        redirected: where no gradient reaches an image at all, let it pass dead rectifiers.
        """
        activations = views.new_empty(len(views))
        gradients = torch.empty_like(views)
        for numbers, rows in self._passes(views.device.type):
            part = views[rows].detach()
            activations[rows], gradient = self._one(part, numbers, diversity, redirected=False)
            dead = gradient.flatten(1).abs().amax(dim=1) == 0
            if redirected and dead.any():
                _, other = self._one(part, numbers, diversity, redirected=True)
                gradient = torch.where(dead[:, None, None, None], other, gradient)
            gradients[rows] = gradient
        return activations, gradients

    def activations(self, images: Tensor) -> Tensor:
        """(n,), without gradients."""
        activations = images.new_empty(len(images))
        with torch.no_grad():
            for numbers, rows in self._passes(images.device.type):
                outputs = self._network(self._normalised(images[rows]), {self._readouts[numbers[0]].layer})
                activations[rows] = self._read(outputs, numbers)
        return activations

    def rows_per_pass(self, device: str) -> int:
        """The most rows that are in the network at a time."""
        return max(1, int(MOST_ROWS[device] * self._scale) // self._copies) * self._copies

    def _one(
        self, views: Tensor, numbers: Sequence[int], diversity: float, *, redirected: bool
    ) -> tuple[Tensor, Tensor]:
        leaf = views.contiguous(memory_format=torch.channels_last).requires_grad_()
        layer = self._readouts[numbers[0]].layer
        alike = bool(diversity) and self._copies > 1
        convolution = None if alike else self._network.convolution(layer)
        with Redirected() if redirected else nullcontext():
            if convolution is not None:
                activations = self._read_fused(
                    self._network.before(self._normalised(leaf), layer), numbers, convolution
                )
            else:
                outputs = self._network(self._normalised(leaf), {layer})
                activations = self._read(outputs, numbers)
        loss = -activations.sum()
        if alike:
            loss = loss + diversity * self._copies * self._likeness(outputs, leaf, numbers)
        (gradient,) = torch.autograd.grad(loss, leaf)
        return activations.detach(), gradient

    def _read(self, outputs: dict[str, Tensor], numbers: Sequence[int]) -> Tensor:
        output = outputs[self._readouts[numbers[0]].layer]
        return torch.cat([self._readouts[number](output[self._own(place)]) for place, number in enumerate(numbers)])

    def _read_fused(
        self, inputs: Tensor, numbers: Sequence[int], convolution: tuple[nn.Conv2d, Affine | None]
    ) -> Tensor:
        rows = (inputs[self._own(place)] for place in range(len(numbers)))
        weights = (self._readouts[number].weights for number in numbers)
        return torch.cat([fused.read(x, *convolution, each) for x, each in zip(rows, weights, strict=True)])

    def _likeness(self, outputs: dict[str, Tensor], views: Tensor, numbers: Sequence[int]) -> Tensor:
        output = outputs[self._readouts[numbers[0]].layer]
        features = output if output.ndim == 4 else views - 0.5
        return torch.stack([alikeness(features[self._own(place)]) for place in range(len(numbers))]).sum()

    def _own(self, place: int) -> slice:
        return slice(place * self._copies, (place + 1) * self._copies)

    def _passes(self, device: str) -> Iterator[tuple[list[int], list[int]]]:
        """Numbers of readouts of one layer, and their rows."""
        together = self.rows_per_pass(device) // self._copies
        layers: dict[str, list[int]] = {}
        for number, read in enumerate(self._readouts):
            layers.setdefault(read.layer, []).append(number)
        for numbers in layers.values():
            for start in range(0, len(numbers), together):
                part = numbers[start : start + together]
                yield (
                    part,
                    [row for number in part for row in range(number * self._copies, (number + 1) * self._copies)],
                )
