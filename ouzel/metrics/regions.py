"""Does the map look at the object? For photographs whose object has a mask."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# Of the shorter side, round the mask, that still counts as a hit: the 15 pixels of TorchRay at 224.
TOLERANCE = 15 / 224


def pointing_game(values: Tensor, mask: Tensor, tolerance: int | None = None) -> float:
    """1 if the map's maximum lies within `tolerance` pixels of the mask, else 0.

    Args:
        values: (H, W).
        mask: (H, W) of bool, True on the object.
        tolerance: In pixels; by default TOLERANCE of the shorter side.

    Returns:
        In [0, 1]: of several equal maxima the share that hits, so that a flat map wins nothing.

    References:
        Zhang et al. 2018, "Top-down neural attention by excitation backprop", arXiv 1608.00507.
    """
    if tolerance is None:
        tolerance = round(min(mask.shape) * TOLERANCE)
    window = 2 * tolerance + 1
    down = F.max_pool2d(mask[None].float(), (window, 1), stride=1, padding=(tolerance, 0))
    grown = F.max_pool2d(down, (1, window), stride=1, padding=(0, tolerance))[0] > 0
    highest = values == values.max()
    return float((highest & grown).sum() / highest.sum())


def energy_inside(values: Tensor, mask: Tensor) -> float:
    """Share of the map's mass |values| that lies on the mask.

    Args:
        values: (H, W).
        mask: (H, W) of bool, True on the object.

    Returns:
        In [0, 1]; 0 for a map without mass.

    References:
        Wang et al. 2020, "Score-CAM", arXiv 1910.01279.
    """
    mass = values.double().abs()
    total = mass.sum()
    return float(mass[mask].sum() / total) if total else 0.0
