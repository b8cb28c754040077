"""Moving a region from one picture to another, around their objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from ouzel.audit.counterfactuals import away

_RIM = 1 / 32  # of the shorter edge, round an object: a mask is seldom exact


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture, and what is not to be touched in it.

    Attributes:
        picture: (H, W, 3) uint8.
        object: (H, W) of bool: the object with a rim; all False if nobody knows where it is.
        known: Whether somebody knows.
    """

    picture: np.ndarray
    object: np.ndarray
    known: bool

    @classmethod
    def of(cls, picture: np.ndarray, mask: np.ndarray | None) -> Shown:
        """A picture with its object's mask, (H, W) of bool; None if nobody knows where it is."""
        if mask is None:
            return cls(picture, np.zeros(picture.shape[:2], dtype=bool), False)
        rim = max(1, round(min(mask.shape) * _RIM))
        return cls(picture, ndimage.binary_dilation(mask, iterations=rim), True)


@dataclass(frozen=True, eq=False)
class Move:
    """A moved region and its control.

    Attributes:
        changed: (H, W, 3) uint8: with the region.
        control: (H, W, 3) uint8: with a region of the same shape elsewhere.
        outside: Share of the region outside of both objects, in [0, 1].
    """

    changed: np.ndarray
    control: np.ndarray
    outside: float


def move(region: np.ndarray, donor: Shown, onto: Shown) -> Move:
    """Puts a region of one picture on another one. The objects of both stay as they are.

    Args:
        region: (h, w) of bool, in places of any size, over the whole picture.
        donor: Whose pixels are taken.
        onto: Whose pixels are replaced. Another size than the donor's is allowed.

    Returns:
        The changed picture, and one that is changed elsewhere: in the place that overlaps least with the region and
        the objects.
    """
    rows, columns = onto.picture.shape[:2]
    source = np.asarray(Image.fromarray(donor.picture).resize((columns, rows), Image.Resampling.BILINEAR))
    objects = onto.object | _scaled(donor.object, rows, columns)
    here = _scaled(region, rows, columns)
    there = away(here, here | objects)

    def swapped(part: np.ndarray) -> np.ndarray:
        return np.where((part & ~objects)[..., None], source, onto.picture)

    return Move(swapped(here), swapped(there), float((here & ~objects).sum() / max(here.sum(), 1)))


def _scaled(region: np.ndarray, rows: int, columns: int) -> np.ndarray:
    if region.shape == (rows, columns):
        return region
    grey = Image.fromarray(np.where(region, 255, 0).astype(np.uint8))
    return np.asarray(grey.resize((columns, rows), Image.Resampling.NEAREST)) > 127
