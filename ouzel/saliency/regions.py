"""Where in the image a class is explained, of a network that answers each pixel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from torch import Tensor

from ouzel.errors import InvalidArgument


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the model's input: left <= x < right, top <= y < bottom.

    Attributes:
        left: 0 or more.
        top: 0 or more.
        right: More than `left`, at most the input's width.
        bottom: More than `top`, at most the input's height.
    """

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Pixel:
    """One pixel of the model's input.

    Attributes:
        x: From the left, 0 to the input's width - 1.
        y: From the top, 0 to the input's height - 1.
    """

    x: int
    y: int


@dataclass(frozen=True)
class Mask:
    """Some pixels of the model's input.

    As bytes, because targets are compared and hashed.

    Attributes:
        data: A byte per pixel, row by row: 0 or 1.
        shape: (H, W).
    """

    data: bytes = field(repr=False)
    shape: tuple[int, int]

    @classmethod
    def of(cls, mask: Tensor | np.ndarray) -> Self:
        """A tensor or an array as a mask.

        Args:
            mask: (H, W), of the model's input; what is not 0 belongs to the region.

        Raises:
            InvalidArgument: It has other axes.
        """
        array = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
        if array.ndim != 2:
            raise InvalidArgument(f"target: a mask of shape {array.shape} is not (height, width)", field="target")
        inside = np.ascontiguousarray(array != 0)
        return cls(inside.tobytes(), (inside.shape[0], inside.shape[1]))


Region = Box | Pixel | Mask


def kind_of(region: Region | None) -> str:
    """Its name: "box", "pixel", "mask"; "predicted" of none."""
    return "predicted" if region is None else type(region).__name__.lower()


def check_region(region: object, height: int, width: int) -> Region:
    """The region, if it lies within the model's input and has a pixel. Raises InvalidArgument."""
    match region:
        case Box(left, top, right, bottom):
            whole = all(_whole(edge) for edge in (left, top, right, bottom))
            if not (whole and 0 <= left < right <= width and 0 <= top < bottom <= height):
                raise _outside(f"box {left}, {top}, {right}, {bottom}", height, width)
        case Pixel(x, y):
            if not (_whole(x) and _whole(y) and 0 <= x < width and 0 <= y < height):
                raise _outside(f"pixel {x}, {y}", height, width)
        case Mask(data, shape):
            if shape != (height, width):
                raise InvalidArgument(
                    f"target: a mask of {shape[1]} x {shape[0]} pixels; the model's input has {width} x {height}",
                    field="target",
                )
            if not any(data):
                raise InvalidArgument("target: the mask is empty: no pixel belongs to its region", field="target")
        case _:
            raise InvalidArgument(f"target: {region!r:.80} is neither a box, a pixel nor a mask", field="target")
    return region


def planes(regions: list[Region | None], height: int, width: int) -> np.ndarray:
    """(n, height, width) of bool: which pixels each region has; all of them for None."""
    made: dict[Region, np.ndarray] = {}
    inside = np.ones((len(regions), height, width), np.bool_)
    for plane, region in zip(inside, regions, strict=True):
        if region is None:
            continue
        if region not in made:
            made[region] = _plane(region, height, width)
        plane[:] = made[region]
    return inside


def _plane(region: Region, height: int, width: int) -> np.ndarray:
    if isinstance(region, Mask):
        return np.frombuffer(region.data, np.bool_).reshape(region.shape)
    plane = np.zeros((height, width), np.bool_)
    if isinstance(region, Pixel):
        plane[region.y, region.x] = True
    else:
        plane[region.top : region.bottom, region.left : region.right] = True
    return plane


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _outside(what: str, height: int, width: int) -> InvalidArgument:
    return InvalidArgument(
        f"target: {what:.80} is not a part of the model's input, {width} x {height} pixels, in whole pixels",
        field="target",
    )
