"""Random masks of RISE and D-RISE: drawn on a coarse grid, enlarged with smooth edges and shifted at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.checks import within
from ouzel.errors import InvalidArgument
from ouzel.saliency.draws import Drawing, draws
from ouzel.saliency.method import Method


@dataclass(frozen=True)
class MaskMethod(Method):
    """Base of methods that ask what random masks leave.

    Attributes:
        masks: How many, 1 to 16384.
        seed: Of the masks; the same seed draws the same masks for all of these methods.
        cells: Cells of the grid along each side, 2 to 64.
        keep: Probability that a cell is shown, between 0 and 1.

    Raises:
        InvalidArgument: A value is out of range.
    """

    masks: int = 512
    seed: int = 0
    cells: int = 7
    keep: float = 0.5
    cost_parameter: ClassVar[str] = "masks"

    def __post_init__(self) -> None:
        within("parameters.masks", self.masks, 1, 16384)
        within("parameters.cells", self.cells, 2, 64)
        within("parameters.seed", self.seed, 0, 2**63 - 1)
        if not 0 < self.keep < 1:
            raise InvalidArgument(f"parameters.keep: {self.keep} is not between 0 and 1", field="parameters.keep")

    def cost(self, height: int, width: int) -> int:
        """See `Method`."""
        return self.masks


def random_masks(how: MaskMethod, x: Tensor, size: int) -> Iterator[Tensor]:
    """(at most `size`, H, W) in [0, 1]; grids and shifts are drawn on the CPU, the same for every device.

    Args:
        how: They are drawn.
        x: (..., H, W), the images; the masks are of their size, type and device.
        size: Masks of a block, at most.
    """
    height, width = x.shape[-2:]
    cell = (-(-height // how.cells), -(-width // how.cells))  # rounded up
    enlarged = ((how.cells + 1) * cell[0], (how.cells + 1) * cell[1])

    def draw(generator: torch.Generator) -> Tensor:
        grid = torch.rand(how.cells, how.cells, generator=generator) < how.keep
        return torch.cat([grid.flatten(), *(torch.randint(extent, (1,), generator=generator) for extent in cell)])

    drawing = Drawing(("rise", how.keep, cell), how.seed, how.masks, (how.cells**2 + 2,), draw)
    down, across = (torch.arange(extent, device=x.device) for extent in (height, width))
    for drawn in draws.blocks(drawing, down, size):
        grids = drawn[:, None, :-2].unflatten(2, (how.cells, how.cells)).float()
        masks = F.interpolate(grids, size=enlarged, mode="bilinear", align_corners=False)[:, 0]
        number = torch.arange(len(masks), device=x.device)[:, None, None]
        row, column = drawn[:, -2, None] + down, drawn[:, -1, None] + across
        yield masks[number, row[:, :, None], column[:, None, :]].to(x.dtype)
