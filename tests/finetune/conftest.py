"""Real images that packages ship, as examples; a real backbone, and a tiny one for what can go wrong."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from ouzel import models
from ouzel.finetune import Example
from ouzel.models import Model, Preprocessing
from support.digits import digits as mnist


def example(name: str, label: str, pixels: np.ndarray, split: str = "") -> Example:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    content = file.getvalue()
    return Example(name, label, hashlib.sha256(content).hexdigest(), lambda: content, split)


@pytest.fixture(scope="session")
def tiny() -> Model:
    """470 k random parameters, BatchNorms, inputs of 32 x 32."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.build("timm:test_resnet", num_classes=4)
    preprocessing = Preprocessing(input_size=(32, 32), resize=36)
    return Model("tiny", "1", network, ("a", "b", "c", "d"), preprocessing, "timm:test_resnet", "sha256:tiny", {})


@pytest.fixture(scope="session")
def digits() -> tuple[Example, ...]:
    """MNIST: of each class 40 to train on, 10 to choose by, 50 held out."""
    images, classes = mnist()
    chance = np.random.default_rng(0)
    examples = []
    for label in range(10):
        for number, row in enumerate(chance.permutation(np.flatnonzero(classes == label))[:100]):
            part = "train" if number < 40 else "validation" if number < 50 else "test"
            pixels = images[row].reshape(28, 28)
            examples.append(example(f"{label}/{row}.png", f"digit {label}", pixels, part))
    return tuple(examples)


@pytest.fixture(scope="session")
def textures() -> tuple[Example, ...]:
    """Crops of photographs of scikit-image; those held out come from the lower part, which no other crop touches."""
    from skimage import data

    examples = []
    for label in ("grass", "gravel", "brick"):
        whole = np.asarray(Image.fromarray(getattr(data, label)()).convert("RGB"))
        for part, top, rows in (("train", 0, 3), ("validation", 288, 1), ("test", 384, 1)):
            for y in range(top, top + 96 * rows, 48 if rows > 1 else 96):
                for x in range(0, whole.shape[1] - 95, 32):
                    crop = whole[y : min(y + 96, top + 96 * rows), x : x + 96]
                    if crop.shape[0] == 96:
                        examples.append(example(f"{label}/{y}-{x}.png", label, crop, part))
    return tuple(examples)


@pytest.fixture(scope="session")
def colours() -> tuple[Example, ...]:
    """Two classes that anybody can tell apart, twelve noisy images each: for a tiny network."""
    chance = np.random.default_rng(0)
    examples = []
    for number in range(12):
        for label, channel in (("blue", 2), ("red", 0)):
            pixels = chance.integers(0, 90, (40, 40, 3), dtype=np.uint8)
            pixels[..., channel] += 150
            examples.append(example(f"{label}/{number}.png", label, pixels))
    return tuple(examples)
