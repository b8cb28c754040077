"""Pillow's resizing of many images at once, on any device.

Pillow resizes 8-bit images in whole numbers, along one axis and then along the other, with weights of 22 bits and a
rounding to 8 bits after each. All sums are below 2^53, so that products of float64 matrices give the same numbers, in
any order of summation. Here the horizontal pass always comes first. Newer versions of Pillow take the cheaper order;
the other one differs by a level here and there. On a CPU, Pillow is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Box = tuple[float, float, float, float]  # (left, top, right, bottom) in pixels of the image

_BITS = 22  # of a weight: PRECISION_BITS in Pillow's Resample.c
_KEPT = 4096  # weights of axes, each a few KB


def resample(images: Sequence[Tensor], boxes: Sequence[Box], size: tuple[int, int], interpolation: str) -> Tensor:
    """What `PIL.Image.resize` makes of the rectangle of each image, horizontally and then vertically.

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
    device, channels, count = images[0].device, images[0].shape[0], len(images)
    height, width = (max(each.shape[axis] for each in images) for axis in (1, 2))
    values = torch.zeros(count, channels, height, width, dtype=torch.float64, device=device)
    for place, image in zip(values, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    pairs = list(zip(images, boxes, strict=True))
    across = _weights([(each.shape[2], box[0], box[2]) for each, box in pairs], size[1], interpolation).to(device)
    down = _weights([(each.shape[1], box[1], box[3]) for each, box in pairs], size[0], interpolation).to(device)
    values = _rounded(values.flatten(1, 2) @ across.mT).view(count, channels, height, size[1])
    values = _rounded(down[:, None] @ values)
    return values.to(torch.uint8)


def _rounded(sums: Tensor) -> Tensor:
    return sums.add_(2 ** (_BITS - 1)).mul_(2.0**-_BITS).floor_().clamp_(0, 255)


def _weights(axes: Sequence[tuple[int, float, float]], size: int, interpolation: str) -> Tensor:
    """(B, size, the longest axis) float64. axes: the length of each, and the part of it that is resized."""
    longest = max(length for length, _, _ in axes)
    weights = np.zeros((len(axes), size, longest))
    for place, axis in zip(weights, axes, strict=True):
        place[:, : axis[0]] = _of_axis(*axis, size, interpolation)
    return torch.from_numpy(weights)


@lru_cache(_KEPT)
def _of_axis(length: int, low: float, high: float, size: int, interpolation: str) -> npt.NDArray[np.float32]:
    """(size, length) whole numbers below 2^24, which float32 holds: the weights of each pixel in each of the result."""
    reach, weight = _FILTERS[interpolation]
    begin = float(np.float32(low))  # as Pillow keeps it
    scale = float(np.float32(high) - np.float32(low)) / size
    stretch = max(scale, 1.0)
    if (begin, scale, size) == (0.0, 1.0, length):  # Pillow leaves out such a pass
        return np.eye(length, dtype=np.float32) * 2**_BITS
    centres = begin + (np.arange(size) + 0.5) * scale
    first = np.maximum(np.trunc(centres - reach * stretch + 0.5), 0)
    last = np.minimum(np.trunc(centres + reach * stretch + 0.5), length)
    pixels = np.arange(length)
    within = (pixels >= first[:, None]) & (pixels < last[:, None])
    values = np.where(within, weight((pixels - centres[:, None] + 0.5) * (1.0 / stretch)), 0.0)
    values /= _summed(values)[:, None]
    return np.trunc(values * 2**_BITS + np.where(values < 0, -0.5, 0.5)).astype(np.float32)


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
