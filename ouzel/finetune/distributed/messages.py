"""What rank 0 tells another rank: the network when an epoch begins, then a part of each batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ouzel.finetune.recipes import Recipe
from ouzel.finetune.variation import Pixels, Views
from ouzel.precision_names import Precision


@dataclass(frozen=True)
class Share:
    """The images of a batch that one rank computes.

    Attributes:
        pixels: The images, at least one.
        views: How they are varied: a part of what was drawn for the whole batch.
        classes: (B,) int64.
        draw: What chance depends on: seed, stage, step.
        counted: How many of the images count: all, or none where the batch has fewer images than there are ranks.
        batch: Images of the whole batch.
        rank: Whose part it is.
        ranks: How many there are.
    """

    pixels: Pixels
    views: Views
    classes: Tensor
    draw: tuple[int, int, int]
    counted: int
    batch: int
    rank: int = 0
    ranks: int = 1

    def turns(self, micro: int) -> list[Turn]:
        """The passes of a step: as many on each rank, each of at most `micro` images."""
        largest = math.ceil(self.batch / self.ranks)
        return [self._turn(start, start + micro) for start in range(0, largest, micro)]

    def _turn(self, start: int, stop: int) -> Turn:
        total = sum(min(max(size - start, 0), stop - start) for size in sizes(self.batch, self.ranks))
        mine = min(self.counted, stop) - start
        return Turn(slice(start, stop), mine, total) if mine > 0 else Turn(slice(0, 1), 0, total)

    def to(self, device: torch.device) -> Share:
        """On a device."""
        pixels = Pixels(self.pixels.values.to(device), self.pixels.places.to(device))
        views, classes = self.views.to(device), self.classes.to(device)
        return Share(pixels, views, classes, self.draw, self.counted, self.batch, self.rank, self.ranks)


@dataclass(frozen=True)
class Turn:
    """One pass of a rank.

    Attributes:
        rows: Of its share. Where none is left it is the first, which does not count, so that all ranks do the same.
        counted: How many of the rows count.
        total: How many count over all ranks.
    """

    rows: slice
    counted: int
    total: int


@dataclass(frozen=True)
class Begin:
    """What a rank needs for the steps of an epoch.

    Attributes:
        network: With its weights, each layer in the mode that it trains in, on the CPU.
        head: Names of the head's tensors.
        all_layers: Whether all layers learn, or the head alone.
        optimizer: The optimiser's state.
        vary: What is done to images.
        recipe: How.
        weights: (K,) of the classes, or None.
        micro: Images that go through the network at a time, at most.
        precision: Of the passes.
        one_shape: Whether batches are filled up.
        loss: What is minimised; None: the cross-entropy of the classes.
    """

    network: nn.Module
    head: frozenset[str]
    all_layers: bool
    optimizer: Mapping[str, Any]
    vary: Any
    recipe: Recipe
    weights: Tensor | None
    micro: int
    precision: Precision
    one_shape: bool
    loss: Any


@dataclass(frozen=True)
class Step:
    """One step of the epoch that has begun.

    Attributes:
        share: The part of the batch.
        rates: The learning rate of each group of parameters.
    """

    share: Share
    rates: tuple[float, ...]


def sizes(batch: int, ranks: int) -> list[int]:
    """How many images of a batch each rank computes: the first ones in order to rank 0, and so on."""
    return [(rank + 1) * batch // ranks - rank * batch // ranks for rank in range(ranks)]


def shares(
    pixels: Pixels, lengths: np.ndarray, views: Views, classes: Tensor, draw: tuple[int, int, int], *, ranks: int
) -> list[Share]:
    """The parts of a batch, by rank.

    Args:
        pixels: All images.
        lengths: (B, 2), their heights and widths.
        views: Of the whole batch, on the host.
        classes: (B,) int64.
        draw: What chance depends on.
        ranks: How many parts.
    """
    parts, batch = [], len(classes)
    for rank, size in enumerate(sizes(batch, ranks)):
        start = rank * batch // ranks
        rows = slice(start, start + size) if size else slice(0, 1)
        part = Share(pixels.part(rows), views.part(rows), classes[rows], draw, size, batch, rank, ranks)
        parts.append(part if rank == 0 else _packed(part, lengths[rows]))
    return parts


def _packed(share: Share, lengths: np.ndarray) -> Share:
    """On the CPU, with the pixels of its own images alone."""
    areas = lengths.prod(1)
    starts = share.pixels.places[:, 0].tolist()
    values = [share.pixels.values[start : start + int(area)] for start, area in zip(starts, areas, strict=True)]
    places = torch.from_numpy(np.stack([areas.cumsum() - areas, lengths[:, 1]], 1))
    pixels = Pixels(torch.cat(values).cpu(), places)
    classes = share.classes.cpu().clone()
    return Share(pixels, share.views, classes, share.draw, share.counted, share.batch, share.rank, share.ranks)
