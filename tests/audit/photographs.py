"""Photographs of scikit-image, scikit-learn and matplotlib, with the outline of what they show, drawn by eye."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import matplotlib.cbook
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from skimage import data
from sklearn.datasets import load_sample_image

Draw = Callable[[ImageDraw.ImageDraw], None]


@dataclass(frozen=True)
class Outlined:
    """A photograph, and the mask of its object."""

    name: str
    image: Image.Image
    mask: Image.Image


def _outline(*polygons: list[tuple[int, int]]) -> Draw:
    def draw(pen: ImageDraw.ImageDraw) -> None:
        for polygon in polygons:
            pen.polygon(polygon, fill=255)

    return draw


def _rounds(*boxes: tuple[int, int, int, int]) -> Draw:
    def draw(pen: ImageDraw.ImageDraw) -> None:
        for box in boxes:
            pen.ellipse(box, fill=255)

    return draw


_CAT = [(0, 190), (42, 158), (32, 63), (79, 0), (379, 0), (374, 63), (363, 168), (347, 226), (305, 274), (250, 300)]
_ROCKET = [(298, 120), (342, 120), (342, 410), (298, 410)]
_TRIPOD = [(225, 140), (335, 130), (350, 260), (412, 512), (225, 512), (270, 260)]
_PAGODA = [(200, 25), (228, 25), (320, 135), (335, 195), (355, 270), (355, 375), (322, 427), (90, 427), (65, 350)]
_PAGODA += [(65, 255), (90, 195), (98, 135)]
_OFFICER = [(158, 158), (150, 84), (210, 25), (316, 25), (375, 105), (362, 210), (348, 316), (512, 380), (512, 600)]
_OFFICER += [(10, 600), (42, 390), (168, 326), (180, 274)]
_OBJECTS: dict[str, tuple[Callable[[], np.ndarray], Draw]] = {
    "cat": (data.chelsea, _outline([*_CAT, (0, 300)])),
    "coffee": (data.coffee, _rounds((70, 20, 485, 390))),
    "rocket": (data.rocket, _outline(_ROCKET)),
    "tripod": (data.camera, _outline(_TRIPOD)),
    "flower": (lambda: load_sample_image("flower.jpg"), _rounds((165, 80, 450, 365), (290, 370, 475, 470))),
    "pagoda": (lambda: load_sample_image("china.jpg"), _outline(_PAGODA)),
    "officer": (
        lambda: np.asarray(Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg"))),
        _outline(_OFFICER),
    ),
}


def photographs() -> tuple[Outlined, ...]:
    """Seven photographs."""
    made = []
    for name, (read, draw) in _OBJECTS.items():
        image = Image.fromarray(read()).convert("RGB")
        mask = Image.new("L", image.size)
        draw(ImageDraw.Draw(mask))
        made.append(Outlined(name, image, mask))
    return tuple(made)


def variants(count: int, seed: int = 0) -> Iterator[Outlined]:
    """Each photograph so many times: mirrored, cut at the edges, lighter or darker."""
    random = np.random.default_rng(seed)
    for photo in photographs():
        for number in range(count):
            image, mask = photo.image, photo.mask
            if random.random() < 0.5:
                image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
            left, top, right, bottom = (random.uniform(0, 0.12, 4) * [*image.size, *image.size]).astype(int)
            box = (left, top, image.width - right, image.height - bottom)
            image = ImageEnhance.Brightness(image.crop(box)).enhance(random.uniform(0.75, 1.25))
            yield Outlined(f"{photo.name} {number}", image, mask.crop(box))
