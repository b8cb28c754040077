"""Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365): the gradient along the way from a baseline.

The integral is taken by Gauss-Legendre quadrature. The map sums up to the difference of the scores at both ends, but
for the error of the quadrature, which is reported as `completeness_gap`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ouzel.checks import within
from ouzel.saliency.baselines import Baseline, baseline_of, check_baseline
from ouzel.saliency.method import Attribution, GradientSpec, Method, Rows
from ouzel.saliency.transfer import sent

_INPUT = GradientSpec()


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated gradients: the mean gradient on the straight way from a baseline, times the difference to it.

    Attributes:
        baseline: One of BASELINES, or an image, floats (C, H, W) as the model takes it.
        steps: Gradients per image, 1 to 1024.

    Raises:
        InvalidArgument: There is no such baseline, or `steps` is out of range.

    References:
        Sundararajan et al. 2017, "Axiomatic attribution for deep networks", arXiv 1703.01365.
    """

    baseline: Baseline = "black"
    steps: int = 32
    name: ClassVar[str] = "integrated_gradients"
    cost_parameter: ClassVar[str] = "steps"

    def __post_init__(self) -> None:
        check_baseline(self.baseline, "baseline")
        within("parameters.steps", self.steps, 1, 1024)

    def cost(self, height: int, width: int) -> int:
        return 2 * self.steps + 1

    def attribute(self, rows: Rows) -> Attribution:
        baseline = baseline_of(self.baseline, rows, "baseline")
        way = rows.x - baseline
        total = torch.zeros_like(way)
        size = rows.blocks((_INPUT,))
        for places, weights in _on_device(self.steps, way.dtype, way.device).split(size, dim=1):
            on_the_way = torch.addcmul(baseline[None], places, way[None]).flatten(0, 1)
            gradients = rows.evaluate_at(on_the_way, (_INPUT,)).gradient(_INPUT)
            total += (weights * gradients.unflatten(0, (len(places), -1))).sum(dim=0)
        values = way * total
        ends = rows.score() - rows.evaluate_at(baseline, ()).score()
        return Attribution(values, {"completeness_gap": (values.sum(dim=(1, 2, 3)) - ends).abs()})


@functools.lru_cache(64)
def _on_device(steps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2, steps, 1, 1, 1, 1) places and weights."""
    return sent(quadrature(steps), device, dtype)[..., None, None, None, None]


def quadrature(steps: int) -> tuple[list[float], list[float]]:
    """Places in (0, 1), ascending, and weights that sum up to 1, of Gauss and Legendre."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    return ((places + 1) / 2).tolist(), (weights / 2).tolist()
