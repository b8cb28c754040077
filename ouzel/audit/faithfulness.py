"""Deletion and insertion of a map, for anybody who answers pictures with probabilities.

References:
    Petsiuk, Das, Saenko 2018, "RISE", arXiv 1806.07421.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import numpy as np
import torch

from ouzel.audit.evidence import Faithfulness
from ouzel.metrics import deletion

# (N, H, W, 3) uint8 to (N,): the probability of the class that the map explains.
Score = Callable[[np.ndarray], np.ndarray]


def faithfulness(
    score: Score, picture: np.ndarray, values: np.ndarray, *, steps: int, random_orders: int, seed: int
) -> Faithfulness:
    """Measures whether the score follows the pixels that a map points at.

    Args:
        score: Asks the audited model.
        picture: (H, W, 3) uint8.
        values: (H, W): the map.
        steps: Of the curves, 2 or more.
        random_orders: How many random orders of the same pixels the map is compared with, 1 or more.
        seed: Of the random orders.

    Returns:
        The areas of the map, and the means of those of the random orders.
    """
    x = torch.from_numpy(picture).permute(2, 0, 1).float()

    def probability(images: torch.Tensor) -> torch.Tensor:
        pictures = images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return torch.from_numpy(score(pictures))

    generator = torch.Generator().manual_seed(seed)
    orders = [torch.rand(values.shape, generator=generator) for _ in range(random_orders)]
    shown, *random = deletion.areas_of(probability, x, [torch.from_numpy(values), *orders], steps=steps, seed=seed)
    return Faithfulness(*shown, *(fmean(column) for column in zip(*random, strict=True)))
