"""Everything that turns images into maps: the methods, and two baselines that know nothing of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.saliency import Explainer, Saliency

EDGES, RANDOM = "edge filter", "random"


class Maps(Protocol):
    """Gives the maps of a batch."""

    def __call__(self, explainer: Explainer, x: Tensor, targets: Sequence[int]) -> Tensor:
        """Explain a batch.

        Args:
            explainer: Of the model.
            x: (B, C, H, W), normalised.
            targets: B classes.

        Returns:
            (B, H, W), or (B, C, H, W) where channels are told apart.
        """


def method(name: str, reduction: str = "max_abs", **parameters: Any) -> Maps:
    """A saliency method by name."""

    def maps(explainer: Explainer, x: Tensor, targets: Sequence[int]) -> Tensor:
        return explainer(x, [Saliency(name, tuple(targets), reduction, **parameters)]).maps[0].values

    return maps


def edge_filter(explainer: Explainer, x: Tensor, targets: Sequence[int]) -> Tensor:
    """Sobel's filter on the mean of the channels: what an edge detector finds, whatever the model."""
    grey = F.pad(x.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None].to(x)
    down, right = F.conv2d(grey, kernels).unbind(dim=1)
    return torch.hypot(down, right)


def random_map(seed: int) -> Maps:
    """Uniform noise, drawn anew for every map."""
    generator = torch.Generator().manual_seed(seed)

    def maps(explainer: Explainer, x: Tensor, targets: Sequence[int]) -> Tensor:
        return torch.rand(len(x), *x.shape[-2:], generator=generator, dtype=torch.float64).to(x)

    return maps
