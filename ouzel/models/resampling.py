"""Pillow's resizing of many images at once, bit by bit, on any device.

Pillow resizes 8-bit images in whole numbers, along one axis and then along the other, with weights of 22 bits and a
rounding to 8 bits after each. All sums are below 2^53, so that products of float64 matrices give the same numbers, in
any order of summation. On a CPU, Pillow is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

Box = tuple[float, float, float, float]  # (left, top, right, bottom) in pixels of the image

_BITS = 22  # of a weight: PRECISION_BITS in Pillow's Resample.c
_KEPT = 512  # weights of axes, each up to some 100 KB
_BILINEAR = Image.Resampling.BILINEAR


def resample(images: Sequence[Tensor], boxes: Sequence[Box], size: tuple[int, int], interpolation: str) -> Tensor:
    """What `PIL.Image.resize` makes of the rectangle of each image.

    Args:
        images: Each (C, H, W) uint8, on one device; sizes may differ, as long as C does not.
        boxes: Of each image, the rectangle.
        size: (h, w) of the result, in pixels.
        interpolation: "bilinear" or "bicubic".

    Returns:
        (B, C, h, w) uint8, on the device.

    References:
        Pillow, src/libImaging/Resample.c.
    """
    made = torch.empty(len(images), images[0].shape[0], *size, dtype=torch.uint8, device=images[0].device)
    for down_first in (False, True):
        places = [place for place, each in enumerate(images) if _down_first(each, size) == down_first]
        if places:
            those = [images[place] for place in places], [boxes[place] for place in places]
            values = _resampled(*those, size, interpolation, down_first=down_first)
            for place, one in zip(places, values, strict=True):
                made[place] = one
    return made


def _resampled(
    images: Sequence[Tensor], boxes: Sequence[Box], size: tuple[int, int], interpolation: str, *, down_first: bool
) -> Tensor:
    """The same for images whose axes come in one order; whole numbers in float64."""
    device, channels, count = images[0].device, images[0].shape[0], len(images)
    height, width = (max(each.shape[axis] for each in images) for axis in (1, 2))
    values = torch.zeros(count, channels, height, width, dtype=torch.float64, device=device)
    for place, image in zip(values, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    pairs = list(zip(images, boxes, strict=True))
    across = _weights([(each.shape[2], box[0], box[2]) for each, box in pairs], size[1], interpolation, device)
    down = _weights([(each.shape[1], box[1], box[3]) for each, box in pairs], size[0], interpolation, device)
    if down_first:
        return _rounded(_rounded(down[:, None] @ values) @ across[:, None].mT)
    return _rounded(down[:, None] @ _rounded(values @ across[:, None].mT))


def _down_first(image: Tensor, size: tuple[int, int]) -> bool:
    """Whether Pillow begins with the columns: newer versions do where that leaves clearly less for the other pass."""
    return _orders() and image.shape[1] - size[0] > 2 * max(image.shape[2] - size[1], 0)


@lru_cache(1)
def _orders() -> bool:
    """Whether the Pillow that is installed is one of those: an image that is resized in one call tells."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 16), dtype=np.uint8))
    columns_first = image.resize((16, 12), _BILINEAR).resize((12, 12), _BILINEAR)
    return image.resize((12, 12), _BILINEAR).tobytes() == columns_first.tobytes()


def _rounded(sums: Tensor) -> Tensor:
    return sums.add_(2 ** (_BITS - 1)).mul_(2.0**-_BITS).floor_().clamp_(0, 255)


def _weights(axes: Sequence[tuple[int, float, float]], size: int, interpolation: str, device: torch.device) -> Tensor:
    """(B, size, the longest axis) float64. axes: the length of each, and the part of it that is resized.

    Few weights of each row are not 0: only those are sent to the device.
    """
    bands = [_of_axis(*axis, size, interpolation) for axis in axes]
    longest, most = max(length for length, _, _ in axes), max(values.shape[1] for _, values in bands)
    weights, index = np.zeros((len(axes), size, most)), np.empty((len(axes), size, most), np.int64)
    for place, where, (first, values) in zip(weights, index, bands, strict=True):
        place[:, : values.shape[1]] = values
        where[:] = first[:, None] + np.arange(most)
    made = torch.zeros(len(axes), size, longest + most, dtype=torch.float64, device=device)
    given = (torch.from_numpy(each).to(device, non_blocking=True) for each in (index, weights))
    return made.scatter_(2, *given)[:, :, :longest]


@lru_cache(_KEPT)
def _of_axis(
    length: int, low: float, high: float, size: int, interpolation: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Of each pixel of the result the first pixel that counts, (size,), and the weights from there on, (size, k).

    The weights are whole numbers; those beyond the last pixel that counts are 0.
    """
    reach, weight = _FILTERS[interpolation]
    begin = float(np.float32(low))  # as Pillow keeps it
    scale = float(np.float32(high) - np.float32(low)) / size
    stretch = max(scale, 1.0)
    if (begin, scale, size) == (0.0, 1.0, length):  # Pillow leaves out such a pass
        return np.arange(length), np.full((length, 1), 2.0**_BITS)
    centres = begin + (np.arange(size) + 0.5) * scale
    first = np.maximum(np.trunc(centres - reach * stretch + 0.5), 0).astype(np.int64)
    last = np.minimum(np.trunc(centres + reach * stretch + 0.5), length).astype(np.int64)
    pixels = first[:, None] + np.arange(2 * int(np.ceil(reach * stretch)) + 1)
    values = weight((pixels - centres[:, None] + 0.5) * (1.0 / stretch))
    values[pixels >= last[:, None]] = 0.0
    values /= _summed(values)[:, None]
    return first, np.trunc(values * 2**_BITS + np.where(values < 0, -0.5, 0.5))


def _summed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sums of rows from left to right, as Pillow adds them up; numpy's own sum has another order."""
    return np.cumsum(values, axis=1)[:, -1]


def _bilinear(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _bicubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    a, x = -0.5, np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


_FILTERS: dict[str, tuple[float, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]]] = {
    "bilinear": (1.0, _bilinear),
    "bicubic": (2.0, _bicubic),
}
