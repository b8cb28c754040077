"""How training varies images: drawn for each by itself, computed for a batch at once.

A view is a crop of any place, size and shape, resized with an antialiasing filter, perhaps mirrored, perhaps of other
brightness, contrast and saturation. The draws follow torchvision's RandomResizedCrop, RandomHorizontalFlip and
ColorJitter, one for each image. They are numbers on the host, which depend on the seed, the stage and the step alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as v2
from torchvision.transforms.v2.functional import InterpolationMode

from ouzel.finetune.recipes import Recipe
from ouzel.models import Preprocessing
from ouzel.saliency.transfer import sent

_TRIES = 10  # to draw a crop that fits into the image
_RATIOS = (3 / 4, 4 / 3)  # of a crop's width to its height
_NUMBERS = 2 * _TRIES + 9  # per image: areas and shapes; 2 of the place, mirrored, 3 factors, 3 of their order
_GREY = (0.2989, 0.587, 0.114)
_STEP = 32  # pixels; what is cut out is a multiple, so that there are few shapes


@dataclass(frozen=True)
class Pixels:
    """Images of several sizes in one tensor.

    Attributes:
        values: (P, C) uint8, the pixels of one image after the other, row by row.
        places: (B, 2) int64: where each image begins, and its width.
    """

    values: Tensor
    places: Tensor

    def part(self, rows: slice) -> Pixels:
        """Some of the images."""
        return Pixels(self.values, self.places[rows])


@dataclass(frozen=True)
class Views:
    """What is drawn for a batch.

    Attributes:
        table: (B, 11) float32: top, left, height, width of the crop in whole pixels; 1 if mirrored; factors of
            brightness, contrast and saturation; which of these comes first, second, third.
        reach: No crop of the batch has more rows or columns.
    """

    table: Tensor
    reach: tuple[int, int]

    def to(self, device: torch.device) -> Views:
        """On a device; the host does not wait for it."""
        return Views(sent(self.table, device), self.reach)

    def part(self, rows: slice) -> Views:
        """Of some of the images."""
        return Views(self.table[rows], self.reach)


@dataclass(frozen=True)
class Variation:
    """Draws and makes views of images.

    Attributes:
        preprocessing: Of the network.
        crop: Smallest share of an image's area; with 1 the view is the centre, as it is served.
        flip: Whether one half is mirrored.
        color: How far the factors may be from 1, 0 to 1.
    """

    preprocessing: Preprocessing
    crop: float
    flip: bool
    color: float

    def draw(self, draw: Sequence[int], sizes: np.ndarray, rows: Sequence[int] = ()) -> Views:
        """Views of a batch.

        Args:
            draw: What chance depends on; equal ones give equal views. Each 0 or more.
            sizes: (B, 2), height and width of each image.
            rows: Not used: views do not depend on what is in the images.
        """
        numbers = np.random.default_rng(draw).random((len(sizes), _NUMBERS))
        shapes, (place, mirrored, factors, order) = (
            numbers[:, : 2 * _TRIES],
            np.split(numbers[:, 2 * _TRIES :], [2, 3, 6], 1),
        )
        boxes = _crops(shapes, place, sizes, self.crop) if self.crop < 1 else self._centres(sizes)
        spread = np.array([self.color, self.color, self.color if self.preprocessing.channels == 3 else 0.0])
        low = 1 - spread
        table = np.concatenate([boxes, self.flip * (mirrored < 0.5), low + 2 * spread * factors, order.argsort(1)], 1)
        return Views(torch.from_numpy(table.astype(np.float32)), (int(boxes[:, 2].max()), int(boxes[:, 3].max())))

    def __call__(self, pixels: Pixels, views: Views) -> Tensor:
        """(B, C, H, W) float32, normalised. Both arguments are on one device."""
        size, name = self.preprocessing.input_size, self.preprocessing.interpolation
        resample = one_by_one if pixels.values.device.type == "cpu" else together
        x = resample(pixels, views, size, name)
        return self.preprocessing.normalised(_coloured(x, views) if self.color else x)

    def _centres(self, sizes: np.ndarray) -> np.ndarray:
        size = np.broadcast_to(self.preprocessing.input_size, sizes.shape)
        return np.concatenate([np.rint((sizes - size) / 2), size], 1)


def variation(recipe: Recipe, preprocessing: Preprocessing) -> Variation:
    """What training by a recipe does to images."""
    return Variation(preprocessing, recipe.crop, recipe.flip, recipe.color)


def one_by_one(pixels: Pixels, views: Views, size: tuple[int, int], interpolation: str) -> Tensor:
    """(B, C, H, W) uint8: each crop by torchvision. On a CPU, that takes a fifth of the time of `together`."""
    crops = []
    for (start, width), row in zip(pixels.places.tolist(), views.table[:, :5].int().tolist(), strict=True):
        top, left, high, wide, mirrored = row
        image = pixels.values[start + top * width : start + (top + high) * width].view(high, width, -1).permute(2, 0, 1)
        crop = v2.resize(image[:, :, left : left + wide], list(size), InterpolationMode(interpolation), antialias=True)
        crops.append(crop.flip(-1) if mirrored else crop)
    return torch.stack(crops)


def together(pixels: Pixels, views: Views, size: tuple[int, int], interpolation: str) -> Tensor:
    """(B, C, H, W) float32 in [0, 255]: the same without rounding, in as many operations for a batch as for an image.

    Resizing is linear along each edge, so it is a product with a matrix from the left and one from the right. Their
    weights are those of Pillow's and torchvision's antialiasing filters.
    """
    top, left, high, wide, mirrored = views.table[:, :5].unbind(1)
    rows, columns = (-(-reach // _STEP) * _STEP for reach in views.reach)
    device = pixels.values.device
    y = torch.minimum(torch.arange(rows, device=device), high[:, None] - 1) + top[:, None]
    x = torch.minimum(torch.arange(columns, device=device), wide[:, None] - 1) + left[:, None]
    start, width = pixels.places.unbind(1)
    places = (start[:, None] + y.long() * width[:, None])[:, :, None] + x.long()[:, None]
    region = pixels.values.index_select(0, places.flatten()).view(*places.shape, -1)  # (B, rows, columns, C)
    region = region.permute(0, 1, 3, 2).to(torch.float32, memory_format=torch.contiguous_format)
    across = _weights(wide, columns, size[1], interpolation, mirrored).transpose(1, 2)
    down = _weights(high, rows, size[0], interpolation)
    resized = down @ (region.flatten(1, 2) @ across).view(len(region), rows, -1)  # (B, H, C * W)
    return resized.view(len(region), size[0], -1, size[1]).transpose(1, 2).clamp(0, 255)


def _weights(lengths: Tensor, taken: int, made: int, interpolation: str, mirrored: Tensor | None = None) -> Tensor:
    """(B, made, taken): of each of `taken` pixels in each of `made`, of crops of these lengths (B,) in pixels."""
    number = torch.arange(made, device=lengths.device, dtype=torch.float32).expand(len(lengths), -1)
    if mirrored is not None:
        number = torch.where(mirrored[:, None] > 0, made - 1 - number, number)
    scale = (lengths / made)[:, None]
    centre = (scale * (number + 0.5))[:, :, None]
    pixel = torch.arange(taken, device=lengths.device)
    away = ((pixel + 0.5 - centre) / scale.clamp_min(1)[:, :, None]).abs()
    if interpolation == "bilinear":
        weights = (1 - away).clamp_min(0)
    else:  # the cubic of Keys 1981 with a = -1/2
        near, far = (1.5 * away - 2.5) * away**2 + 1, ((-0.5 * away + 2.5) * away - 4) * away + 2
        weights = torch.where(away < 1, near, torch.where(away < 2, far, 0.0))
    weights = weights * (pixel < lengths[:, None])[:, None]
    return weights / weights.sum(2, keepdim=True)


def _coloured(x: Tensor, views: Views) -> Tensor:
    """x: (B, C, H, W) in [0, 255]. Each factor mixes an image with black, with its mean grey, or with its grey."""
    x = x.float()
    kinds = torch.arange(3, device=x.device)
    for number in range(3):
        which = (views.table[:, 8 + number, None] == kinds).float()
        factor = (views.table[:, 5:8] * which).sum(1)[:, None, None, None]
        grey = x if x.shape[1] == 1 else (x * x.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)
        mean = grey.mean((1, 2, 3), keepdim=True)
        _, contrast, saturation = (each[:, None, None, None] for each in which.unbind(1))
        x = (factor * x + (1 - factor) * (contrast * mean + saturation * grey)).clamp(0, 255)
    return x


def _crops(shapes: np.ndarray, place: np.ndarray, sizes: np.ndarray, smallest: float) -> np.ndarray:
    """(B, 4). The first of the tries that fits; of an image too long for all, the largest centre."""
    high, wide = sizes[:, :1], sizes[:, 1:]
    areas = high * wide * (smallest + (1 - smallest) * shapes[:, :_TRIES])
    ratios = np.exp(np.interp(shapes[:, _TRIES:], (0, 1), [math.log(each) for each in _RATIOS]))
    heights, widths = np.rint(np.sqrt(areas / ratios)), np.rint(np.sqrt(areas * ratios))
    # Behind them, what is taken if none fits.
    heights = np.concatenate([heights, np.minimum(high, np.rint(wide / _RATIOS[0]))], 1)
    widths = np.concatenate([widths, np.minimum(wide, np.rint(high * _RATIOS[1]))], 1)
    fits = (heights >= 1) & (widths >= 1) & (heights <= high) & (widths <= wide)
    first = fits.argmax(1)[:, None]
    chosen = np.concatenate([np.take_along_axis(each, first, 1) for each in (heights, widths)], 1)
    corner = np.where(first < _TRIES, np.floor(place * (sizes - chosen + 1)), (sizes - chosen) // 2)
    return np.concatenate([corner, chosen], 1)
