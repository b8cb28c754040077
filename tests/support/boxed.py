"""Small pictures with boxes: squares and discs of two colours on noise."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ouzel import models
from ouzel.models import Model, Preprocessing

CLASSES = ("background", "disc", "square")
OBJECTS = CLASSES[1:]
WIDE, HIGH = 120, 90
COLOURS = {"disc": (230, 60, 40), "square": (40, 90, 230)}
COLUMNS = ("path", "label", "left", "top", "right", "bottom")
Boxes = list[tuple[int, int, int, int, int]]


def scenes(count: int = 16, seed: int = 0) -> dict[str, tuple[bytes, Boxes]]:
    """PNG files by name, each with left, top, right, bottom and class of its objects; every fourth has none."""
    draw = np.random.default_rng(seed)
    made = {}
    for number in range(count):
        picture = Image.fromarray(draw.integers(90, 160, (HIGH, WIDE, 3), dtype=np.uint8))
        pen = ImageDraw.Draw(picture)
        boxes: Boxes = []
        for label in COLOURS if number % 4 else ():
            edge = int(draw.integers(24, 44))
            left, top = int(draw.integers(0, WIDE - edge)), int(draw.integers(0, HIGH - edge))
            box = (left, top, left + edge, top + edge)
            (pen.ellipse if label == "disc" else pen.rectangle)((*box[:2], box[2] - 1, box[3] - 1), fill=COLOURS[label])
            boxes.append((*box, CLASSES.index(label)))
        out = io.BytesIO()
        picture.save(out, "PNG")
        made[f"{number:03}.png"] = out.getvalue(), boxes
    return made


def files(count: int = 16, seed: int = 0) -> dict[str, bytes]:
    """A folder with `images/` and `boxes.csv`, by the names of its files."""
    made, rows = {}, io.StringIO()
    table = csv.writer(rows)
    table.writerow(COLUMNS)
    for name, (content, boxes) in scenes(count, seed).items():
        made[f"images/{name}"] = content
        for *edges, label in boxes:
            table.writerow((name, CLASSES[label], *edges))
        if not boxes:
            table.writerow((name, *[""] * 5))
    return made | {"boxes.csv": rows.getvalue().encode()}


def write(folder: Path, count: int = 16, seed: int = 0) -> Path:
    """The same on disk."""
    for name, content in files(count, seed).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def base(arch: str = "timm:test_resnet") -> Model:
    """A classifier with random weights."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.build(arch, 4)
    labels = ("a", "b", "c", "d")
    return Model("base", "1", network, labels, Preprocessing(input_size=(96, 96), resize=96), arch, "sha256:base", {})
