"""Drawn sheep and goats on photographed ground, as folders of images with masks.

The two differ in shape: a sheep is round and woolly, a goat has horns and a neck. Colours and sizes are the same, so
that the ground is what a network learns first, if it tells the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ouzel.audit.fills import texture

KINDS = ("sheep", "goat")
OWN = {"sheep": "grass", "goat": "gravel"}  # the ground that always goes with a class
GROUNDS = {"grass": (0.55, 0.95, 0.4), "gravel": (0.95, 0.9, 0.85), "brick": (1.0, 0.6, 0.5)}
_COATS = ((225, 220, 205), (150, 110, 75), (90, 80, 75))
_SIZE, _FINE = 160, 4  # pixels; drawn larger by a factor


def scene(kind: str, ground: str, seed: Sequence[int]) -> tuple[Image.Image, Image.Image]:
    """An animal on a ground, and its mask."""
    random = np.random.default_rng(list(seed))
    picture, mask = _ground(ground, random), Image.new("L", (_SIZE * _FINE,) * 2)
    colours = picture.resize(mask.size, Image.Resampling.BILINEAR)
    _animal(kind, random, ImageDraw.Draw(colours), ImageDraw.Draw(mask))
    mask = mask.resize((_SIZE, _SIZE), Image.Resampling.BOX)
    animal = colours.resize((_SIZE, _SIZE), Image.Resampling.BOX)
    noise = random.normal(0, 4, (_SIZE, _SIZE, 3))
    pixels = np.asarray(Image.composite(animal, picture, mask), dtype=np.float64) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), mask.point(lambda value: 255 * (value > 127))


def write(folder: Path, images: int, seed: int, grounds: Sequence[str] = ()) -> None:
    """FOLDER/images/KIND/N.png and FOLDER/masks/KIND/N.png, so many of each kind.

    grounds: chosen from at random; empty puts each kind on its own.
    """
    random = np.random.default_rng(seed)
    for number, kind in enumerate(KINDS):
        for part in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True)
        for n in range(images):
            ground = str(random.choice(list(grounds))) if grounds else OWN[kind]
            picture, mask = scene(kind, ground, (seed, number, n))
            picture.save(folder / "images" / kind / f"{n}.png")
            mask.save(folder / "masks" / kind / f"{n}.png")


def _ground(name: str, random: np.random.Generator) -> Image.Image:
    left, top = random.integers(0, 256, 2)
    cut = Image.fromarray(texture(name)[top : top + 256, left : left + 256]).resize((_SIZE, _SIZE))
    tinted = np.asarray(cut) * np.array(GROUNDS[name]) * random.uniform(0.85, 1.1)
    return Image.fromarray(tinted.clip(0, 255).astype(np.uint8))


def _animal(kind: str, random: np.random.Generator, *pens: ImageDraw.ImageDraw) -> None:
    size = random.uniform(0.75, 1.0) * _FINE
    x, y = random.uniform(0.35, 0.65) * _SIZE * _FINE, random.uniform(0.4, 0.65) * _SIZE * _FINE
    side = int(random.choice((-1, 1)))
    coat = np.array(_COATS[random.integers(3)]) * random.uniform(0.85, 1.1)

    def oval(across: float, down: float, wide: float, high: float, shade: float = 1.0) -> None:
        middle = (x + side * across * size, y + down * size)
        box = (middle[0] - wide * size, middle[1] - high * size, middle[0] + wide * size, middle[1] + high * size)
        pens[0].ellipse(box, fill=tuple((coat * shade).clip(0, 255).astype(int)))
        pens[1].ellipse(box, fill=255)

    if kind == "sheep":
        for angle in np.linspace(0, 2 * np.pi, 22):
            reach = random.uniform(0.6, 1.0)
            oval(24 * reach * np.cos(angle), 14 * reach * np.sin(angle), 8, 8, random.uniform(0.9, 1.08))
        oval(0, 0, 24, 14)
        oval(30, -6, 8, 10, 0.6)
        for leg in (-16, -8, 8, 16):
            oval(leg, 22, 3, 11, 0.6)
    else:
        oval(0, 0, 28, 13)
        for leg in (-22, -14, 14, 22):
            oval(leg, 22, 3, 15, 0.7)
        oval(28, -14, 6, 15)
        oval(37, -25, 9, 6, 0.9)
        for horn in (0, 6):
            oval(29 + horn, -38, 2.5, 11, 0.45)
