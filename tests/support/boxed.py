"""Small pictures with boxes: squares and discs of two colours on noise."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ouzel import models
from ouzel.models import Model, Preprocessing

CLASSES = ("background", "disc", "square")
WIDE, HIGH = 120, 90
COLOURS = {"disc": (230, 60, 40), "square": (40, 90, 230)}


def write(folder: Path, count: int = 16, seed: int = 0) -> Path:
    """A folder with `images/` and `boxes.csv`."""
    draw = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(count):
        picture = Image.fromarray(draw.integers(90, 160, (HIGH, WIDE, 3), dtype=np.uint8))
        pen = ImageDraw.Draw(picture)
        path = f"{number:03}.png"
        for label in COLOURS if number % 4 else ():
            edge = int(draw.integers(24, 44))
            left, top = int(draw.integers(0, WIDE - edge)), int(draw.integers(0, HIGH - edge))
            box = (left, top, left + edge, top + edge)
            (pen.ellipse if label == "disc" else pen.rectangle)((*box[:2], box[2] - 1, box[3] - 1), fill=COLOURS[label])
            rows.append((path, label, *box))
        if not number % 4:
            rows.append((path, "", "", "", "", ""))
        picture.save(folder / "images" / path)
    with (folder / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "left", "top", "right", "bottom"), *rows])
    return folder


def base(arch: str = "timm:test_resnet") -> Model:
    """A classifier with random weights."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.build(arch, 4)
    labels = ("a", "b", "c", "d")
    return Model("base", "1", network, labels, Preprocessing(input_size=(96, 96), resize=96), arch, "sha256:base", {})
