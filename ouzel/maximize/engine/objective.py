"""The gradients of the objective: activations of the nodes, and their gradients with respect to the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from ouzel.maximize.engine.passes import Pass, Plan, plan
from ouzel.maximize.engine.redirect import Redirected
from ouzel.maximize.engine.truncated import Truncated
from ouzel.maximize.nodes import Readout
from ouzel.maximize.regularizers import alikeness
from ouzel.maximize.statistics import Statistics

# Rows per pass. More are slower on a CPU, whose caches they leave; measured with VGG-16, ResNet-18, EfficientNet-Lite0.
MOST_ROWS = {"cpu": 4, "cuda": 64}


class ObjectiveGradients:
    """Activations of the nodes, and gradients of the objective with respect to the images.

    Rows come as one batch: for each readout its `copies`, of each copy its `views`. They go through the network in
    passes of a few rows, those of one layer together, each no further than that layer.

    Args:
        network: Up to the layers of the nodes.
        readouts: How each node is read.
        copies: Images per node.
        normalised: From images in [0, 1] to what the network takes.
        scale: Of the rows per pass.
        views: Rows of each image.

    Attributes:
        statistics: That images should have, besides exciting their node; None is none.
    """

    statistics: Statistics | None = None

    def __init__(
        self,
        network: Truncated,
        readouts: Sequence[Readout],
        copies: int,
        normalised: Callable[[Tensor], Tensor],
        *,
        scale: float = 1.0,
        views: int = 1,
    ) -> None:
        self._scale, self._views = scale, views
        self._network, self._readouts, self._normalised = network, readouts, normalised
        self._copies, self._rows = copies, copies * views  # of each node
        self._plans: dict[tuple[torch.device, int], Plan] = {}

    def gradients(self, views: Tensor, diversity: float, *, redirected: bool) -> tuple[Tensor, Tensor]:
        """Activations (n,), and gradients of a loss, (n, C, H, W).

        The loss is lower where activations are higher, and where the copies of a node differ.

        redirected: where no gradient reaches an image at all, let it pass dead rectifiers. The host waits for that.
        """
        activations, gradients = [], []
        plan = self._plan(views.device, self._rows)
        for one in plan.passes:
            part = one.of(views.detach())
            values, gradient = self._one(part, one, diversity, redirected=False)
            if redirected:
                dead = gradient.flatten(1).abs().amax(dim=1) == 0
                if dead.any():
                    _, other = self._one(part, one, diversity, redirected=True)
                    gradient = torch.where(dead[:, None, None, None], other, gradient)
            activations.append(values)
            gradients.append(gradient)
        return plan.joined(activations), plan.joined(gradients)

    def activations(self, images: Tensor) -> Tensor:
        """(n,) of the images themselves, one row each, without gradients."""
        plan = self._plan(images.device, self._copies)
        with torch.no_grad():
            return plan.joined([self._read(one.of(images), one) for one in plan.passes])

    def rows_per_pass(self, device: str) -> int:
        """The most rows that are in the network at a time."""
        return self._together(device, self._rows)

    def _read(self, images: Tensor, one: Pass) -> Tensor:
        return one.read(self._network(self._normalised(images), {one.layer})[one.layer])

    def _one(self, views: Tensor, one: Pass, diversity: float, *, redirected: bool) -> tuple[Tensor, Tensor]:
        leaf = views.contiguous(memory_format=torch.channels_last).requires_grad_()
        alike = bool(diversity) and self._copies > 1
        fused = None if alike or self.statistics is not None else one.fused(self._network)
        outputs: dict[str, Tensor] = {}
        with Redirected() if redirected else nullcontext():
            if fused is not None:
                activations = fused(self._network.before(self._normalised(leaf), one.layer))
            else:
                layers = {one.layer, *(self.statistics.layers if self.statistics else ())}
                outputs = self._network(self._normalised(leaf), layers)
                output = outputs[one.layer]
                activations = one.read(output)
        loss = -activations.sum()
        if self.statistics is not None:
            nodes = [number for number in one.numbers for _ in range(self._rows)]
            loss = loss + self.statistics.distance(outputs, nodes).sum()
        if alike:
            features = output if output.ndim == 4 else leaf - 0.5
            # Views of one image are alike, and shall be: the first ones of all copies are compared.
            likeness = torch.stack([alikeness(features[rows][:: self._views]) for rows in one.own()]).sum()
            loss = loss + diversity * self._rows * likeness
        (gradient,) = torch.autograd.grad(loss, leaf)
        return activations.detach(), gradient

    def _plan(self, device: torch.device, rows: int) -> Plan:
        """rows: of each node."""
        key = device, rows
        if key not in self._plans:
            self._plans[key] = plan(self._readouts, rows, self._together(device.type, rows), device)
        return self._plans[key]

    def _together(self, device: str, rows: int) -> int:
        return max(1, int(MOST_ROWS[device] * self._scale) // rows) * rows
