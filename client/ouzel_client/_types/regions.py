"""Parts of an image, over which a segmentation model's classes are explained."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image as PILImage


@dataclass(frozen=True)
class Box:
    """A region: left <= x < right, top <= y < bottom, in pixels of the uploaded image, upright.

    Attributes:
        left: 0 or more.
        top: 0 or more.
        right: More than `left`, at most the image's width.
        bottom: More than `top`, at most the image's height.
    """

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Pixel:
    """A region: one pixel of the uploaded image, upright; the model's pixel in which its centre lies.

    Attributes:
        x: From the left, 0 or more.
        y: From the top, 0 or more.
    """

    x: int
    y: int


# A mask is a PNG file of grey levels (a Path, or bytes), a PIL image, or an array uint8 or bool (H, W): of the size of
# the uploaded image, and not 0 in the region.
Region: TypeAlias = "Box | Pixel | os.PathLike[str] | bytes | PILImage.Image | npt.NDArray[Any]"
