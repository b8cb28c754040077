"""Does an image take the same path through the network as photographs of its class?

An image that excites a class may do so by units that no photograph of the class uses. Then it does not show how the
network sees photographs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import FailedPrecondition

MOST_LAYERS = 12
FEWEST = 2  # photographs of the class: their likeness to each other is the yardstick


@dataclass(frozen=True)
class PathLayer:
    """How alike activations of one layer are: mean rank correlations (Spearman's) over all its units.

    Attributes:
        layer: Its name.
        image: Of the image with the photographs of its class.
        same: Of the photographs of the class with each other.
        other: Of the photographs of the class with those of other classes.
        score: (image - other) / (same - other): 1 is as alike as the photographs of the class are, 0 no more than those
            of other classes. None where `same` is not above `other` by two standard errors: there the layer does not
            tell the class apart.
    """

    layer: str
    image: float
    same: float
    other: float
    score: float | None


@dataclass(frozen=True)
class NetworkPath:
    """The path of one image.

    Attributes:
        layers: From the first to the last.
        photographs: Of the class.
        others: Photographs of other classes.
    """

    layers: tuple[PathLayer, ...]
    photographs: int
    others: int


class Paths:
    """Compares images with photographs, layer by layer.

    Args:
        network: Takes what `normalised` gives.
        layers: To be compared at; see `stages`.

    References:
        Geirhos et al. 2023, "Don't trust your eyes", arXiv 2306.04719, section 4.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        self._network, self._layers = network, tuple(layers)

    @models.computing()
    def compare(
        self, images: Sequence[Tensor], same: Sequence[Tensor], others: Sequence[Tensor]
    ) -> tuple[NetworkPath, ...]:
        """The path of each image. All are (C, H, W), normalised, of one size; at least two `same` and one other."""
        if len(same) < FEWEST or not others:
            raise ValueError("photographs of the class and of others are needed")
        rows = [self._ranks(one) for one in (*same, *others, *images)]
        count, natural = len(same), len(same) + len(others)
        layers: list[list[PathLayer]] = [[] for _ in images]
        for number, name in enumerate(self._layers):
            ranks = torch.stack([row[number] for row in rows])
            table = (ranks[:count] @ ranks.T).double()
            among = (table[:, :count].sum(1) - table[:, :count].diagonal()) / (count - 1)
            away = table[:, count:natural].mean(1)
            apart = among - away
            clear = float(apart.mean()) > 2 * float(apart.std()) / count**0.5
            for row, path in enumerate(layers):
                like, base, best = float(table[:, natural + row].mean()), float(away.mean()), float(among.mean())
                path.append(PathLayer(name, like, best, base, (like - base) / (best - base) if clear else None))
        return tuple(NetworkPath(tuple(path), count, len(others)) for path in layers)

    def _ranks(self, x: Tensor) -> list[Tensor]:
        """Per layer the ranks of all its units, centred and of length 1; zeros where all are equal."""
        outputs = outputs_of(self._network, x[None], self._layers)
        ranks = []
        for name in self._layers:
            values = average_ranks(outputs[name].flatten())
            values = values - values.mean()
            ranks.append((values / values.norm().clamp_min(1e-12)).float().cpu())
        return ranks


def average_ranks(values: Tensor) -> Tensor:
    """(n,) to (n,) float64: ranks from 1 on; equal values share the mean of theirs."""
    _, places, counts = values.double().unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[places]


def stages(network: nn.Module, example: Tensor, most: int = MOST_LAYERS) -> tuple[str, ...]:
    """Names of the layers that a path is looked at: the network's children, and theirs where one is a sequence.

    Only those that hold weights of two dimensions or more, and put out one tensor for a row of the example; spread
    evenly, the last included, if there are more than `most`.

    Args:
        network: Is run once.
        example: (1, C, H, W), normalised.
        most: Of the names.

    Raises:
        FailedPrecondition: There are none.
    """
    names = []
    for name, child in network.named_children():
        inner = list(child.named_children()) if isinstance(child, nn.Sequential) else []
        names += [f"{name}.{each}" for each, _ in inner] if inner else [name]
    named = dict(network.named_modules())
    names = [name for name in names if any(p.ndim >= 2 for p in named[name].parameters())]
    seen = outputs_of(network, example, names)
    ran = [name for name in seen if len(seen[name]) == len(example)]  # in the order in which they ran
    if not ran:
        raise FailedPrecondition("path: the network has no layers to look at", field="path")
    if len(ran) > most:
        ran = [ran[round((place + 1) * len(ran) / most) - 1] for place in range(most)]
    return tuple(ran)


def outputs_of(network: nn.Module, x: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
    """What layers put out, by name, in the order in which they ran first. Those that give no tensor are left out."""
    outputs: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and name not in outputs:
                outputs[name] = output.detach().clone()  # the next module may overwrite it

        return hook

    named = dict(network.named_modules())
    handles = [named[name].register_forward_hook(watch(name)) for name in layers]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    return outputs
