"""Statistics of photographs, which images are to share: how the values of each channel of some layers are distributed.

What excites a node may be far from all photographs. If its channels have values as they have for photographs, it is
nearer to them, in colours and textures, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.maximize.nodes import LOGITS, Readout
from ouzel.maximize.path import outputs_of, stages

LAYERS = 4


@dataclass(frozen=True)
class Statistics:
    """Sorted values that channels should have.

    Attributes:
        weight: Of the distance, in units of the activation.
        values: By layer, (nodes, C, places), each channel's values in ascending order, the mean over photographs.
        relevance: By layer, (nodes, C), how much each channel counts, 1 on average.
    """

    weight: float
    values: Mapping[str, Tensor]
    relevance: Mapping[str, Tensor]

    @property
    def layers(self) -> Collection[str]:
        """At which images are compared."""
        return self.values.keys()

    def distance(self, outputs: Mapping[str, Tensor], nodes: Sequence[int]) -> Tensor:
        """(n,): the weighted distance of each row of the layers' outputs from what its node's should be.

        It is the mean squared difference of sorted values, divided by the mean square of what they should be; the mean
        over the layers.

        Args:
            outputs: By layer, (n, C, h, w).
            nodes: Of each row.
        """
        rows = torch.tensor(nodes)
        total: Tensor | float = 0.0
        for layer, values in self.values.items():
            output = outputs[layer].flatten(2).sort(dim=2).values
            wanted = values[rows.to(values.device)]
            if wanted.shape[2] != output.shape[2]:  # images of another size have other numbers of places
                wanted = F.interpolate(wanted, size=output.shape[2], mode="linear", align_corners=True)
            counts = self.relevance[layer][rows.to(values.device)][:, :, None]
            scale = wanted.square().mean(dim=(1, 2)).clamp_min(1e-12)
            total = total + ((output - wanted).square() * counts).mean(dim=(1, 2)) / scale
        return self.weight * total / len(self.values)  # type: ignore[return-value]  # there is a layer


def layers_before(network: nn.Module, example: Tensor, readouts: Sequence[Readout]) -> tuple[str, ...]:
    """At which layers of maps images can be compared: none runs longer than the last of the targets' layers.

    Raises FailedPrecondition if there are none.
    """
    names = stages(network, example, most=64)
    ends = {read.layer for read in readouts}
    order = list(outputs_of(network, example, [*names, *(ends - {LOGITS} - set(names))]))
    if LOGITS not in ends:
        order = order[: 1 + max((order.index(layer) for layer in ends if layer in order), default=len(order))]
    with models.Tracker(image := example.clone()):
        seen = outputs_of(network, image, [name for name in order if name in names])
        maps = [name for name, output in seen.items() if _places(output) > 1]
    if not maps:
        raise FailedPrecondition(
            "parameters.statistics: the network has no maps of channels before the targets",
            field="parameters.statistics",
        )
    most = min(LAYERS, len(maps))
    return tuple(maps[round((place + 1) * len(maps) / most) - 1] for place in range(most))


def _places(output: Tensor) -> int:
    layout = models.Tracker.layout(output)
    return layout.shape[1] * layout.shape[2] if layout is not None and len(layout.shape) == 3 else 0


Run = Callable[[Tensor, Collection[str]], Mapping[str, Tensor]]


def statistics_of(
    run: Run,
    layers: Sequence[str],
    readouts: Sequence[Readout],
    photographs: Sequence[Sequence[Tensor]],
    *,
    weight: float,
    relevance: float,
) -> Statistics:
    """The statistics of photographs.

    Args:
        run: From (n, C, H, W), normalised, to the outputs of layers, (n, C, h, w).
        layers: Of `layers_before`.
        readouts: Of the nodes.
        photographs: For each node its own, (C, H, W), normalised.
        weight: Of the distance.
        relevance: 0 lets all channels count alike; 1 lets them count as far as they move the node in its photographs:
            by |value x gradient|, summed over places (relevance propagation for networks of rectifiers).

    References:
        Goerguen et al. 2025, "VITAL: more understandable feature visualization through distribution alignment and
        relevant information flow", arXiv 2503.22399.
    """
    values: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    counts: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    known: dict[tuple[int, ...], dict[str, Tensor]] = {}
    for read, images in zip(readouts, photographs, strict=True):
        key = tuple(id(image) for image in images)
        if key not in known:
            known[key] = _sorted(run, layers, images)
        for layer in layers:
            values[layer].append(known[key][layer])
        for layer, each in _relevances(run, layers, read, images, relevance).items():
            counts[layer].append(each)
    return Statistics(weight, *({layer: torch.stack(each) for layer, each in one.items()} for one in (values, counts)))


def _sorted(run: Run, layers: Sequence[str], images: Sequence[Tensor]) -> dict[str, Tensor]:
    totals: dict[str, Any] = dict.fromkeys(layers, 0.0)
    with torch.no_grad():
        for image in images:
            outputs = run(image[None], layers)
            for layer in layers:
                totals[layer] = totals[layer] + outputs[layer][0].flatten(1).sort(dim=1).values / len(images)
    return totals


def _relevances(
    run: Run, layers: Sequence[str], read: Readout, images: Sequence[Tensor], relevance: float
) -> dict[str, Tensor]:
    totals: dict[str, Any] = dict.fromkeys(layers, 0.0)
    for image in images if relevance else images[:1]:
        with torch.set_grad_enabled(bool(relevance)):
            outputs = run(image[None].requires_grad_(bool(relevance)), {*layers, read.layer})
        if not relevance:
            return {layer: torch.ones(outputs[layer].shape[1], device=image.device) for layer in layers}
        wanted = [outputs[layer] for layer in layers]
        gradients = torch.autograd.grad(read(outputs[read.layer]).sum(), wanted, allow_unused=True)
        for layer, output, gradient in zip(layers, wanted, gradients, strict=True):
            moved = torch.zeros_like(output) if gradient is None else output * gradient
            totals[layer] = totals[layer] + moved.detach().sum(dim=(2, 3)).abs()[0]
    return {layer: 1 - relevance + relevance * total / total.mean().clamp_min(1e-30) for layer, total in totals.items()}
