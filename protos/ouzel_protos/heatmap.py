"""Saliency maps as pictures, drawn the same by the service and by the client. numpy only.

Colours come from ramps that are computed here, from a few anchors in CIE LCh: lightness rises evenly from nothing to
much, so that a step in value looks like a step of the same size anywhere, also in grey and to the colour-blind. Maps
with negative values get a ramp with two arms: blue below zero, red above.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Picture = npt.NDArray[np.uint8]

# (lightness in percent, chroma, hue in degrees), evenly spaced along the ramp.
_SEQUENTIAL = ((4, 12, 300), (28, 50, 330), (52, 72, 375), (76, 74, 425), (96, 34, 465))
_ABOVE = ((96, 0, 40), (62, 66, 35), (32, 62, 35))
_BELOW = ((96, 0, 275), (62, 44, 270), (32, 50, 280))
_STEPS = 256
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL's mode L


def colorize(values: Floats) -> Picture:
    """Colours of a map.

    Args:
        values: (H, W). Full colour is reached at `scale(values)`.

    Returns:
        (H, W, 3) uint8; a map of zeros has one colour.

    Raises:
        ValueError: The values are not (H, W).
    """
    return _colours(_normalised(values))


def blend(image: Picture, values: Floats, alpha: float = 0.8) -> Picture:
    """Draws a map over a picture, which lies beneath in grey, so that every colour is the map's.

    Args:
        image: (H, W, 3) uint8.
        values: (H, W). The larger a value, the more opaque its colour: where the map has zeros, the picture shows.
        alpha: Opacity of the largest values, in [0, 1].

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: The shapes do not fit, or alpha is out of range.
    """
    if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        grey = _rounded(image @ _LUMA)
        image = np.repeat(beneath(grey, bool((_finite(values) < 0).any()))[..., None], 3, axis=2)
    return paint(image, values, alpha)


def beneath(grey: Picture, signed: bool) -> Picture:
    """Grey levels (H, W) as they lie beneath a map: dark where its colours are light, else light."""
    low, high = (110, 250) if signed else (12, 150)
    return _rounded(low + grey.astype(np.float64) * ((high - low) / 255))


def paint(image: Picture, values: Floats, alpha: float, full: float | None = None) -> Picture:
    """Draws a map over a picture, which shows as it is where the map is 0.

    Args:
        image: (H, W, 3) uint8.
        values: (H, W).
        alpha: Opacity of the largest values, in [0, 1].
        full: Magnitude of full colour; None is `scale(values)`.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: The shapes do not fit, or alpha is out of range.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: {alpha} is not in [0, 1]")
    share = _normalised(values, full)
    if image.dtype != np.uint8 or image.shape != (*share.shape, 3):
        raise ValueError(
            f"image: {image.dtype} of shape {image.shape} does not fit a map of {share.shape}; "
            f"it must be uint8 {(*share.shape, 3)}"
        )
    opacity = (alpha * np.abs(share))[..., None]
    return _rounded(image * (1 - opacity) + _colours(share) * opacity)


def scale(values: Floats) -> float:
    """The magnitude that is drawn in full colour: the 99th percentile of those that are not zero; 1 if all are.

    A few outliers do not darken the rest, and a frame of zeros around a map changes nothing.

    Args:
        values: (H, W).
    """
    magnitudes = np.abs(_finite(values))
    magnitudes = magnitudes[magnitudes > 0]
    return float(np.percentile(magnitudes, 99)) if magnitudes.size else 1.0


def _finite(values: Floats) -> Floats:
    # float64: a float16 map would overflow in the percentile, a subnormal float32 in the division.
    return np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _normalised(values: Floats, full: float | None = None) -> Floats:
    """To [-1, 1]. Raises ValueError unless values are (H, W)."""
    if np.ndim(values) != 2:
        raise ValueError(f"values: shape {np.shape(values)} is not (H, W)")
    share: Floats = np.clip(_finite(values) / (scale(values) if full is None else full), -1, 1)
    return share


def _colours(share: Floats) -> Picture:
    if (share < 0).any():
        table = np.concatenate([_ramp(_BELOW)[::-1], _ramp(_ABOVE)])
        place = np.where(share < 0, _STEPS - 1, _STEPS) + share * (_STEPS - 1)
    else:
        table, place = _ramp(_SEQUENTIAL), share * (_STEPS - 1)
    colours: Picture = table[np.rint(place).astype(np.intp)]
    return colours


@cache
def _ramp(anchors: tuple[tuple[float, float, float], ...]) -> Picture:
    """(256, 3) sRGB colours along anchors (lightness, chroma, hue)."""
    at = np.linspace(0, len(anchors) - 1, _STEPS)
    lightness, chroma, hue = (np.interp(at, range(len(anchors)), component) for component in zip(*anchors, strict=True))
    return _srgb(lightness, chroma * np.cos(np.deg2rad(hue)), chroma * np.sin(np.deg2rad(hue)))


def _srgb(lightness: Floats, a: Floats, b: Floats) -> Picture:
    """CIELAB (D65) to sRGB, clipped to what a screen can show; the formulas of CIE 15 and IEC 61966-2-1."""
    middle = (lightness + 16) / 116
    roots = np.stack([middle + a / 500, middle, middle - b / 200], axis=-1)
    ratios = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29))
    xyz = ratios * (0.95047, 1.0, 1.08883)
    linear = np.clip(xyz @ np.linalg.inv(_XYZ_OF_SRGB).T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return _rounded(encoded * 255)


_XYZ_OF_SRGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def _rounded(values: Floats) -> Picture:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
