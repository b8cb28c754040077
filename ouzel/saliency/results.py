"""What the engine answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ouzel.saliency.targets import ResolvedTarget


@dataclass(frozen=True)
class SaliencyMap:
    """One map of one row, or of every row of a batch.

    Attributes:
        method: Its name.
        target: What is explained; of a batch one per row.
        values: (H, W), or (C, H, W) with reduction "none"; of a batch (B, ...).
        reduction: One of REDUCTIONS.
        rectified: Activations whose backward pass the method changed.
        caveats: What a reader of the map must know.
        parameters: The method's, by name, with all defaults filled in.
        measures: Figures that the method reports of itself; of a batch (B,).
    """

    method: str
    target: ResolvedTarget | tuple[ResolvedTarget, ...]
    values: Tensor
    reduction: str
    rectified: int
    caveats: tuple[str, ...]
    parameters: Mapping[str, Any]
    measures: Mapping[str, Any]


@dataclass(frozen=True)
class Explanation:
    """What the engine answers for a batch.

    Attributes:
        logits: (B, K).
        maps: One per request (several for a Top target), each over the whole batch.
    """

    logits: Tensor
    maps: tuple[SaliencyMap, ...]


def stack(maps: Sequence[SaliencyMap]) -> SaliencyMap:
    """The maps of one request, one per row, as one map of the batch."""
    first = maps[0]
    return SaliencyMap(
        method=first.method,
        target=tuple(m.target for m in maps),  # type: ignore[misc]
        values=torch.stack([m.values for m in maps]),
        reduction=first.reduction,
        rectified=first.rectified,
        caveats=first.caveats,
        parameters=first.parameters,
        measures={name: torch.tensor([m.measures[name] for m in maps]) for name in first.measures},
    )
