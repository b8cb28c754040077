"""A saliency map drawn over the photograph it explains, for people to look at: the same by the service and the client.

The photograph lies beneath in grey, so that every colour is the map's. A map of a layer, a few cells that were widened
to the input's size, is widened again by bicubic interpolation, without the creases of the bilinear one. A map of single
pixels is smoothed a little: what the eye should compare is where there is much of it, not which pixel has more than its
neighbour. Arrays keep what the method said; only pictures are drawn so. Pillow is imported when a picture is drawn.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from ouzel_protos import heatmap

if TYPE_CHECKING:
    from PIL import Image as PILImage

Floats = npt.NDArray[np.floating[Any]]
Map = TypeVar("Map", bound=npt.NDArray[Any])
Box = tuple[float, float, float, float]

# Methods whose maps tell of single pixels.
PIXELWISE = frozenset(
    ("gradient", "guided", "guided_grad_cam", "input_x_gradient", "integrated_gradients", "smoothgrad")
)
_SIGMA = 0.011  # of the map's longer edge: 2.5 pixels of 224
_FADE, _FRAME = {False: 40, True: 240}, {False: 200, True: 110}  # grey levels, without and with signs
_LINE = 0.003  # width of the frame round what the model saw, of the picture's shorter edge
_EXACT = 4e-3  # of the largest value: the cells of a layer's map give its values within this; float16 rounds by less


def draw(
    picture: PILImage.Image,
    values: Floats,
    *,
    view: Box | None = None,
    method: str = "",
    size: tuple[int, int] | None = None,
    alpha: float = 0.8,
) -> PILImage.Image:
    """Draws a map over the part of a picture that the model saw, in a thin frame.

    Args:
        picture: The whole picture, which becomes grey.
        values: The map, (H, W).
        view: (left, top, right, bottom) of the part that the model saw, in pixels of the picture; None is all of it.
            The rest is faded.
        method: Its name says whether the map is one of single pixels.
        size: (width, height) of the result; None is that of the picture.
        alpha: Opacity of the largest values, in [0, 1].

    Returns:
        An RGB image.

    Raises:
        ValueError: As `heatmap.blend`.
    """
    from PIL import Image

    width, height = size or picture.size
    grey = np.asarray(picture.convert("L").resize((width, height), Image.Resampling.LANCZOS))
    left, top, right, bottom = inside(view, picture.size, (width, height))
    shown = field(values, (right - left, bottom - top), method)
    signed = bool((shown < 0).any())
    background = np.repeat(heatmap.beneath(grey, signed)[..., None], 3, axis=2)
    drawn = _faded(background, signed)
    line = max(1, round(_LINE * min(width, height)))
    drawn[max(0, top - line) : bottom + line, max(0, left - line) : right + line] = _FRAME[signed]
    drawn[top:bottom, left:right] = heatmap.paint(background[top:bottom, left:right], shown, alpha)
    return Image.fromarray(drawn)


def field(values: Floats, size: tuple[int, int], method: str = "") -> Floats:
    """The map as it is drawn: smoothed or widened, as the module says.

    Args:
        values: (H, W).
        size: (width, height) at which it is drawn.
        method: Its name says whether the map is one of single pixels.

    Returns:
        (height, width) float32, in shares of the largest magnitude.
    """
    from PIL import Image

    plain = np.nan_to_num(np.asarray(values, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(np.abs(plain).max(initial=0.0))
    if largest == 0:
        return np.zeros(size[::-1], np.float32)
    plain = plain / np.float32(largest)  # colours are relative; float16 and tiny values have no range of their own
    low, high = plain.min(), plain.max()  # bicubic overshoots: no map gets signs by that
    plain = _smooth(plain, _SIGMA * max(plain.shape)) if method in PIXELWISE else _cells(plain)
    wide = np.asarray(Image.fromarray(plain).resize(size, Image.Resampling.BICUBIC))
    shown: Floats = np.clip(wide, low, high)
    return shown


def seen(values: Map, view: Box) -> Map:
    """The part of a map of the whole picture that the model saw.

    Args:
        values: (H, W), as large as the picture.
        view: (left, top, right, bottom), in pixels.
    """
    left, top, right, bottom = inside(view, values.shape[::-1], values.shape[::-1])
    return values[top:bottom, left:right]  # type: ignore[return-value]  # a part is of the same kind


def enlarged(picture: tuple[int, int], view: Box, values: tuple[int, int], longest: int) -> tuple[int, int]:
    """The size at which to draw over a picture: its own, and larger where the map is finer.

    Args:
        picture: (width, height).
        view: (left, top, right, bottom) of the part that the model saw, in pixels.
        values: (height, width) of the map.
        longest: Most pixels along an edge.

    Returns:
        (width, height).
    """
    scale = max(1.0, values[1] / max(view[2] - view[0], 1e-9), values[0] / max(view[3] - view[1], 1e-9))
    scale = min(scale, longest / max(picture))
    return max(1, round(picture[0] * scale)), max(1, round(picture[1] * scale))


def bar(width: int, height: int, signed: bool) -> PILImage.Image:
    """The colours from little to much, left to right; for maps with signs from against to for.

    Args:
        width: In pixels.
        height: In pixels.
        signed: Whether values have signs.

    Returns:
        An RGB image.
    """
    from PIL import Image

    ramp = np.linspace(-1.0 if signed else 0.0, 1.0, width)[None].repeat(height, axis=0)
    beneath = np.full((height, width, 3), heatmap.beneath(np.full((1, 1), 128, np.uint8), signed)[0, 0], np.uint8)
    return Image.fromarray(heatmap.paint(beneath, ramp, 1.0, full=1.0))


def inside(view: Box | None, picture: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of a picture that the model saw, in whole pixels of what is drawn; one pixel at least.

    Args:
        view: (left, top, right, bottom) in pixels of the picture; None is all of it.
        picture: (width, height).
        size: (width, height) of what is drawn.
    """
    if view is None:
        return 0, 0, *size
    x, y = size[0] / picture[0], size[1] / picture[1]
    left, top = (max(0, min(round(edge), most - 1)) for edge, most in ((view[0] * x, size[0]), (view[1] * y, size[1])))
    right, bottom = min(max(round(view[2] * x), left + 1), size[0]), min(max(round(view[3] * y), top + 1), size[1])
    return left, top, right, bottom


def _faded(background: heatmap.Picture, signed: bool) -> heatmap.Picture:
    """What the model did not see: of little contrast, so that it tells where the rest lies and draws no eye."""
    faded: heatmap.Picture = np.rint(0.4 * background + 0.6 * _FADE[signed]).astype(np.uint8)
    return faded


def _smooth(values: Floats, sigma: float) -> Floats:
    """Gaussian, by rows and columns; beyond the edge the map goes on as its mirror."""
    reach = min(max(1, round(3 * sigma)), min(values.shape) - 1)
    if reach < 1 or sigma <= 0:
        return values
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        padded = np.pad(values, [(reach, reach) if axis == each else (0, 0) for each in (0, 1)], mode="reflect")
        length = values.shape[axis]
        values = sum(
            weight * padded.take(range(place, place + length), axis=axis) for place, weight in enumerate(weights)
        ).astype(np.float32)
    return values


def _cells(values: Floats) -> Floats:
    """The cells of a map that was widened from a few by bilinear interpolation; any other map as it is."""
    down, across = _count(values), _count(values.T)
    if not down or not across:
        return values
    rows, columns = _narrow(values.shape[0], down), _narrow(values.shape[1], across)
    return np.ascontiguousarray(rows @ values @ columns.T, dtype=np.float32)


def _count(values: Floats) -> int:
    """The fewest cells along the first axis that give the map; 0 if more than a quarter of its length is needed."""
    for count in range(2, values.shape[0] // 4 + 1):
        again = _wide(values.shape[0], count) @ (_narrow(values.shape[0], count) @ values)
        if np.abs(again - values).max() <= _EXACT:
            return count
    return 0


@cache
def _wide(length: int, count: int) -> Floats:
    """(length, count): bilinear interpolation from cells whose centres lie evenly, constant beyond the last."""
    place = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
    weights: Floats = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count))).astype(np.float32)
    return weights


@cache
def _narrow(length: int, count: int) -> Floats:
    """(count, length): the cells that tell a map of this length best."""
    return np.linalg.pinv(_wide(length, count)).astype(np.float32)
