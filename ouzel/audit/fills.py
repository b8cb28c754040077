"""What takes the place of pixels that a counterfactual removes.

Every fill leaves traces of its own, and a network may react to a trace instead of to what is missing. So several kinds
are used, and each is reported.

References:
    Xiao et al. 2020, "Noise or signal: the role of image backgrounds in object recognition", arXiv 2006.09994.
    Sturmfels, Lundberg, Lee 2020, "Visualizing the impact of feature attribution baselines",
    doi 10.23915/distill.00022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ouzel.errors import InvalidArgument

if TYPE_CHECKING:
    import torch

KINDS = ("blur", "mean", "texture")
MEAN = (124, 116, 104)  # the mean colour of ImageNet
TEXTURES = ("brick", "grass", "gravel")  # photographs of scikit-image, public domain
_BLUR_SHARE = 1 / 16  # of the shorter edge: standard deviation of the blur
_WIDER = 4  # blurs, each twice as wide as the one before
_NEAR = 1e-3  # weight of the background round a pixel that is enough for a mean


# From a picture (H, W, 3) uint8, and its smoothed background, of the same size and type, to a picture of the same size.
Paint = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Fill:
    """One way to fill pixels.

    Attributes:
        kind: One of KINDS.
        name: Unique among the fills of an audit.
        paint: Makes the picture whose pixels are taken.
    """

    kind: str
    name: str
    paint: Paint


def fills(kinds: Sequence[str]) -> tuple[Fill, ...]:
    """The fills of an audit, in a fixed order.

    Args:
        kinds: Of KINDS.

    Raises:
        InvalidArgument: The kind "texture" needs scikit-image, which is missing.
    """
    made: list[Fill] = []
    if "blur" in kinds:
        made.append(Fill("blur", "blur", lambda _, smoothed: smoothed))
    if "mean" in kinds:
        made.append(Fill("mean", "mean", lambda picture, _: np.broadcast_to(np.array(MEAN, np.uint8), picture.shape)))
    if "texture" in kinds:
        made += [Fill("texture", name, _fitted(texture(name))) for name in TEXTURES]
    return tuple(made)


@cache
def texture(name: str) -> np.ndarray:
    """(512, 512, 3) uint8: one of TEXTURES. Raises InvalidArgument if scikit-image is missing."""
    try:
        from skimage import data
    except ImportError as error:
        raise InvalidArgument(
            'fills: "texture" needs scikit-image, which is not installed; leave this kind out', field="fills"
        ) from error
    grey = np.asarray(getattr(data, name)(), dtype=np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _fitted(source: np.ndarray) -> Paint:
    return lambda picture, _: cover(source, picture.shape[0], picture.shape[1])


def cover(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of a picture, scaled so that it covers (height, width): (height, width, 3) uint8."""
    if picture.shape[:2] == (height, width):
        return picture
    rows, columns = picture.shape[:2]
    scale = max(height / rows, width / columns)
    high, wide = height / scale, width / scale
    left, top = (columns - wide) / 2, (rows - high) / 2
    box = (max(left, 0.0), max(top, 0.0), min(left + wide, columns), min(top + high, rows))
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box=box))


def smooth(picture: np.ndarray, background: np.ndarray) -> np.ndarray:
    """A Gaussian blur of the background alone, which closes the place of the object and holds none of its colours.

    Args:
        picture: (H, W, 3) uint8.
        background: (H, W) of bool, with one pixel at least.

    Returns:
        (H, W, 3) uint8. Where no pixel of the background is near, the blur is wider; where none is near even then, it
        is the mean of all of them.
    """
    import torch  # here: designs and verdicts are read where there is no torch

    sigma = max(min(picture.shape[:2]) * _BLUR_SHARE, 0.5)
    inside = background.astype(np.float64)
    # (4, H, W): the colours of the background, and where it is.
    layers = torch.from_numpy(np.stack([*np.moveaxis(picture * inside[..., None], 2, 0), inside]))
    result = np.broadcast_to(picture[background].mean(0), picture.shape).copy()
    missing = np.ones(background.shape, dtype=bool)
    for _ in range(_WIDER):
        down, across = (_blurring(edge, sigma) for edge in background.shape)
        *colours, weight = (down @ layers @ across.T).numpy()
        near = missing & (weight > _NEAR)
        result[near] = np.stack([each[near] for each in colours], axis=1) / weight[near][:, None]
        missing &= ~near
        if not missing.any():
            break
        sigma *= 2
    return result.round().clip(0, 255).astype(np.uint8)


@lru_cache(8)
def _blurring(edge: int, sigma: float) -> torch.Tensor:
    """(edge, edge): the matrix of a Gaussian filter along an axis. A product with it is much faster than the filter.

    Torch's products keep to the threads that the process was given; those of numpy take all cores.
    """
    import torch
    from scipy import ndimage

    return torch.from_numpy(ndimage.gaussian_filter1d(np.eye(edge), sigma, axis=0))
