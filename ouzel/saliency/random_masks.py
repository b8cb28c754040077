"""Random masks of RISE and D-RISE: drawn on a coarse grid, enlarged with smooth edges and shifted at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel.checks import within
from ouzel.errors import InvalidArgument
from ouzel.saliency.draws import Drawing, draws


class Masks(Protocol):
    """How masks are drawn, see `ouzel.saliency.methods.rise.Rise`."""

    @property
    def masks(self) -> int:
        """How many."""

    @property
    def seed(self) -> int:
        """Of the masks."""

    @property
    def cells(self) -> int:
        """Cells of the grid along each side."""

    @property
    def keep(self) -> float:
        """Probability that a cell is shown."""


def check_masks(how: Masks) -> None:
    """Raises InvalidArgument for a value that is out of range."""
    within("parameters.masks", how.masks, 1, 16384)
    within("parameters.cells", how.cells, 2, 64)
    within("parameters.seed", how.seed, 0, 2**63 - 1)
    if not 0 < how.keep < 1:
        raise InvalidArgument(f"parameters.keep: {how.keep} is not between 0 and 1", field="parameters.keep")


def random_masks(how: Masks, x: Tensor, size: int) -> Iterator[Tensor]:
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
