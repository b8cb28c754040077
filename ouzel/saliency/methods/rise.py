"""RISE (Petsiuk et al. 2018, arXiv 1806.07421): random masks, weighted by the probability that the target keeps.

Masks are drawn on a coarse grid, enlarged with smooth edges and shifted at random. What a mask hides is black. Needs no
gradient, and many forward passes; the map is a sample and changes with the seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.checks import within
from ouzel.errors import InvalidArgument
from ouzel.saliency.baselines import constant
from ouzel.saliency.method import Attribution, Method, Rows


@dataclass(frozen=True)
class Rise(Method):
    """RISE: the mean of random masks, weighted by the probability that the target keeps under them.

    Attributes:
        masks: How many, 1 to 16384.
        seed: Of the masks.
        cells: Cells of the grid along each side, 2 to 64.
        keep: Probability that a cell is shown, between 0 and 1.

    Raises:
        InvalidArgument: A value is out of range.

    References:
        Petsiuk et al. 2018, "RISE: Randomized input sampling for explanation", arXiv 1806.07421.
    """

    masks: int = 512
    seed: int = 0
    cells: int = 7
    keep: float = 0.5
    name: ClassVar[str] = "rise"
    cost_parameter: ClassVar[str] = "masks"

    def __post_init__(self) -> None:
        within("parameters.masks", self.masks, 1, 16384)
        within("parameters.cells", self.cells, 2, 64)
        within("parameters.seed", self.seed, 0, 2**63 - 1)
        if not 0 < self.keep < 1:
            raise InvalidArgument(f"parameters.keep: {self.keep} is not between 0 and 1", field="parameters.keep")

    def cost(self, height: int, width: int) -> int:
        return self.masks

    def attribute(self, rows: Rows) -> Attribution:
        x = rows.x
        black = constant(rows.facts.black, x)
        total = x.new_zeros(len(x), *x.shape[-2:])
        masks = self._masks(x)
        size = rows.blocks(())
        for start in range(0, self.masks, size):
            chunk = [next(masks) for _ in range(min(size, self.masks - start))]
            masked = torch.cat([black + mask * (x - black) for mask in chunk])
            weights = rows.evaluate_at(masked, ()).probability().reshape(len(chunk), len(x))
            for mask, weight in zip(chunk, weights, strict=True):
                total += weight[:, None, None] * mask
        return Attribution((total / (self.masks * self.keep))[:, None])

    def _masks(self, x: Tensor) -> Iterator[Tensor]:
        """(H, W) in [0, 1] each; drawn on the CPU, so that every device sees the same masks."""
        generator = torch.Generator().manual_seed(self.seed)
        height, width = x.shape[-2:]
        cell = (-(-height // self.cells), -(-width // self.cells))  # rounded up
        while True:
            grid = (torch.rand(1, 1, self.cells, self.cells, generator=generator) < self.keep).float()
            size = ((self.cells + 1) * cell[0], (self.cells + 1) * cell[1])
            mask = F.interpolate(grid, size=size, mode="bilinear", align_corners=False)[0, 0]
            down, across = (int(torch.randint(extent, (), generator=generator)) for extent in cell)
            yield mask[down : down + height, across : across + width].to(x)
