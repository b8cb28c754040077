"""Images with label maps that anybody can tell apart: red squares and blue discs on noise."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from ouzel_protos import label_maps

CLASSES = ("background", "square", "disc")


def png(pixels: np.ndarray) -> bytes:
    """Any array as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def scene(number: int, size: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """(size, size, 3) and (size, size) uint8."""
    chance = np.random.default_rng((7, number))
    pixels = chance.integers(60, 140, (size, size, 3), dtype=np.uint8)
    labels = np.zeros((size, size), np.uint8)
    y, x = np.mgrid[:size, :size]
    for label, colour in ((1, (220, 40, 40)), (2, (40, 40, 220))):
        left, top, radius = chance.integers(8, size - 8), chance.integers(8, size - 8), chance.integers(5, 9)
        if label == 1:
            inside = (abs(x - left) < radius) & (abs(y - top) < radius)
        else:
            inside = (x - left) ** 2 + (y - top) ** 2 < radius**2
        pixels[inside], labels[inside] = colour, label
    return pixels, labels


def files(count: int = 8) -> dict[str, bytes]:
    """A folder in the layout of label maps, by the names of its files."""
    made = {"classes.txt": "".join(f"{name}\n" for name in CLASSES).encode()}
    for number in range(count):
        pixels, labels = scene(number)
        made[f"images/{number}.png"] = png(pixels)
        made[f"masks/{number}.png"] = label_maps.write(labels)
    return made


def reads(contents: Mapping[str, bytes]) -> dict[str, Callable[[], bytes]]:
    """What gives each file."""
    return {name: lambda content=content: content for name, content in contents.items()}
