"""Pictures of an audit as people look at them: the object's outline, maps over the picture, files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from ouzel import pages
from ouzel_protos import heatmap, overlay

_EDGE = 448  # pixels along the longer edge of a picture that is looked at closely
_YELLOW = (255, 212, 0)
_THUMB = 224  # pixels along the longer edge of a picture among many


def outlined(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture with a line round the object, yellow with a black rim, to be seen on anything.

    Args:
        picture: (H, W, 3) uint8.
        mask: (H, W) of bool, True on the object.

    Returns:
        (h, w, 3) uint8: a small picture is enlarged to 448 pixels along its longer edge.
    """
    height, width = _size(picture)
    drawn = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
    grey = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    inside = np.asarray(grey) > 127
    line = max(1, round(max(height, width) / 160))
    for reach, colour in ((2 * line, (0, 0, 0)), (line, _YELLOW)):
        drawn[_grown(inside, reach) & ~inside] = colour
    return drawn


def over(picture: np.ndarray, values: np.ndarray, method: str) -> np.ndarray:
    """A map over the picture, (h, w, 3) uint8, as large as `outlined`.

    Args:
        picture: (H, W, 3) uint8.
        values: (H, W).
        method: Of the map.
    """
    height, width = _size(picture)
    return np.asarray(overlay.draw(Image.fromarray(picture), values, method=method, size=(width, height)))


def mean_map(values: np.ndarray, region: np.ndarray) -> np.ndarray:
    """A small map, with a line round a region of its places, (h, w, 3) uint8.

    Args:
        values: (N, N).
        region: (N, N) of bool.
    """
    edge = _THUMB // values.shape[0]
    return outlined(heatmap.colorize(values).repeat(edge, 0).repeat(edge, 1), region.repeat(edge, 0).repeat(edge, 1))


def with_region(picture: np.ndarray, region: np.ndarray) -> np.ndarray:
    """A picture with a line round a region of a small map, which covers the whole picture.

    Args:
        picture: (H, W, 3) uint8.
        region: (N, N) of bool.
    """
    grey = Image.fromarray(np.where(region, 255, 0).astype(np.uint8))
    wide = grey.resize((picture.shape[1], picture.shape[0]), Image.Resampling.NEAREST)
    return outlined(picture, np.asarray(wide) > 127)


def scale(signed: bool) -> str:
    """The colours of maps, as the source of an <img>."""
    return pages.photo(np.asarray(overlay.bar(192, 14, signed)))


def thumb(picture: np.ndarray) -> str:
    """A picture among many, as the source of an <img>."""
    small = Image.fromarray(picture)
    small.thumbnail((_THUMB, _THUMB), Image.Resampling.LANCZOS)
    return pages.photo(np.asarray(small))


def png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8 as a file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def npy(values: np.ndarray) -> bytes:
    """An array as a file of numpy's format."""
    out = io.BytesIO()
    np.save(out, values, allow_pickle=False)
    return out.getvalue()


def _size(picture: np.ndarray) -> tuple[int, int]:
    height, width = picture.shape[:2]
    factor = max(1.0, _EDGE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _grown(inside: np.ndarray, reach: int) -> np.ndarray:
    return ndimage.distance_transform_edt(~inside) <= reach if inside.any() else inside
