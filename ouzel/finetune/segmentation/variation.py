"""Variation of an image and its label map together: the same crop, mirrored or not; classes are never mixed.

The image is resized with the antialiasing filter of the model. Of the label map each new pixel takes the class that
lies at its centre: the nearest neighbour, as torchvision's NEAREST_EXACT has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ouzel.finetune.variation import Pixels, Variation, Views


@dataclass(frozen=True)
class MaskedVariation:
    """Draws and makes views of images whose last channel is their label map. `images`: what is done to the others."""

    images: Variation

    def draw(self, draw: Sequence[int], sizes: np.ndarray, rows: Sequence[int] = ()) -> Views:
        """See `Variation.draw`."""
        return self.images.draw(draw, sizes, rows)

    def __call__(self, pixels: Pixels, views: Views) -> Tensor:
        """(B, C + 1, H, W) float32: the image, normalised, and the class of each pixel, as a whole number."""
        x = self.images(Pixels(pixels.values[:, :-1], pixels.places), views)
        labels = nearest(pixels, views, self.images.preprocessing.input_size)
        return torch.cat([x, labels[:, None].to(x.dtype)], 1)


def nearest(pixels: Pixels, views: Views, size: tuple[int, int]) -> Tensor:
    """(B, H, W) uint8: the last channel of each crop, in as many operations for a batch as for an image.

    Args:
        pixels: Whole images.
        views: What is cut out of them.
        size: H and W.
    """
    top, left, high, wide, mirrored = views.table[:, :5].unbind(1)
    rows = _centres(high, size[0]) + top.long()[:, None]
    columns = _centres(wide, size[1])
    columns = torch.where(mirrored[:, None] > 0, columns.flip(1), columns) + left.long()[:, None]
    start, width = pixels.places.unbind(1)
    places = (start[:, None] + rows * width[:, None])[:, :, None] + columns[:, None]
    return pixels.values[:, -1].index_select(0, places.flatten()).view(places.shape)


def _centres(lengths: Tensor, made: int) -> Tensor:
    """(B, made) int64: the pixel of `lengths` ones (B,) at the centre of each of `made`."""
    centres = (torch.arange(made, device=lengths.device, dtype=torch.float64) + 0.5) / made
    taken = (centres * lengths.double()[:, None]).long()
    return torch.minimum(taken, lengths.long()[:, None] - 1)
