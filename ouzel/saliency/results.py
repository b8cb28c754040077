"""What the engine answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
        logits: (B, K), or (B, K, H, W) of a network that answers each pixel.
        maps: One per request (several for a Top target), each over the whole batch.
    """

    logits: Tensor
    maps: tuple[SaliencyMap, ...]
