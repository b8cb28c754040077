"""Seeded pictures of noise."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 48, height: int = 40) -> np.ndarray:
    """(height, width, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(seed: int, width: int = 48, height: int = 40) -> bytes:
    """The same, as the bytes of a PNG file."""
    out = io.BytesIO()
    Image.fromarray(picture(seed, width, height)).save(out, "PNG")
    return out.getvalue()
