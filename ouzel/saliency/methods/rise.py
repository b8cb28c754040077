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
from ouzel.saliency.draws import Drawing, draws
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
        for masks in self._masks(x, rows.blocks(())):
            masked = torch.addcmul(black[None], masks[:, None, None], (x - black)[None]).flatten(0, 1)
            kept = rows.evaluate_at(masked, ()).probability().unflatten(0, (len(masks), -1))
            total += (kept[..., None, None] * masks[:, None]).sum(dim=0)
        return Attribution((total / (self.masks * self.keep))[:, None])

    def _masks(self, x: Tensor, size: int) -> Iterator[Tensor]:
        """(at most `size`, H, W) in [0, 1]; grids and shifts are drawn on the CPU, the same for every device."""
        height, width = x.shape[-2:]
        cell = (-(-height // self.cells), -(-width // self.cells))  # rounded up
        enlarged = ((self.cells + 1) * cell[0], (self.cells + 1) * cell[1])

        def draw(generator: torch.Generator) -> Tensor:
            grid = torch.rand(self.cells, self.cells, generator=generator) < self.keep
            return torch.cat([grid.flatten(), *(torch.randint(extent, (1,), generator=generator) for extent in cell)])

        drawing = Drawing(("rise", self.keep, cell), self.seed, self.masks, (self.cells**2 + 2,), draw)
        down, across = (torch.arange(extent, device=x.device) for extent in (height, width))
        for drawn in draws.blocks(drawing, down, size):
            grids = drawn[:, None, :-2].unflatten(2, (self.cells, self.cells)).float()
            masks = F.interpolate(grids, size=enlarged, mode="bilinear", align_corners=False)[:, 0]
            number = torch.arange(len(masks), device=x.device)[:, None, None]
            row, column = drawn[:, -2, None] + down, drawn[:, -1, None] + across
            yield masks[number, row[:, :, None], column[:, None, :]].to(x.dtype)
