"""What learnt features are worth, over the number of labelled images: the digits 5 to 9 after 0 to 4.

    python examples/lecture/transfer.py    # docs/lecture/transfer.jpg

A small residual network learns 2,000 digits of 0 to 4. Then it learns 5 to 9 in three ways, from few of them and many.
"""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import as_model, digits, main, save
from matplotlib import pyplot as plt
from PIL import Image

from ouzel import models
from ouzel.finetune import Example, finetune, make_recipe
from ouzel.models import Model, Preprocessing

ARCH = "timm:test_resnet"
EDGE = 32  # pixels of the network's input
BEFORE, NOW = range(5), range(5, 10)  # classes
COUNTS = (2, 4, 10, 40, 200)  # of each class
SEEDS = (0, 1, 2)
HELD_OUT = 100  # of each class
STEPS, BATCH, EPOCHS = 150, 16, 6  # at least so many steps, and so often each digit
WAYS = {  # recipe: what the legend says, colour
    "feature_extractor": ("feature extractor: the last layer alone", "#3b76af"),
    "fine_tune": ("fine-tuning: all layers", "#3a8a4f"),
    "scratch": ("scratch: random weights", "#888888"),
}


def draw(path: Path, counts: Sequence[int] = COUNTS, seeds: Sequence[int] = SEEDS, steps: int = STEPS) -> None:
    pool = by_class()
    first = [example(pool, label, n, "train" if n < 400 else "test") for label in BEFORE for n in range(500)]
    begun = time.monotonic()
    learnt = tuned(random_network(), first, "scratch", 0, steps)
    base = as_model(random_network(), learnt)
    print(f"0 to 4: right on {learnt.test.accuracy:.1%} ({time.monotonic() - begun:.0f} s)", flush=True)
    test = [example(pool, label, -1 - n, "test") for label in NOW for n in range(HELD_OUT)]
    right: dict[str, dict[int, list[float]]] = {way: {count: [] for count in counts} for way in WAYS}
    for seed in seeds:
        order = np.random.default_rng(seed)
        drawn = {label: order.permutation(len(pool[label]) - HELD_OUT) for label in NOW}
        for count in counts:
            train = [example(pool, label, int(n), "train") for label in NOW for n in drawn[label][:count]]
            for way in WAYS:
                begun = time.monotonic()
                right[way][count].append(tuned(base, [*train, *test], way, seed, steps).test.accuracy)
                took = time.monotonic() - begun
                print(f"{way}, {5 * count} digits: right on {right[way][count][-1]:.1%} ({took:.0f} s)", flush=True)
    chart(path, right)


def random_network() -> Model:
    torch.manual_seed(0)
    network = models.build(ARCH, num_classes=len(BEFORE)).eval()
    preprocessing = Preprocessing(input_size=(EDGE, EDGE), resize=EDGE)
    labels = tuple(map(str, BEFORE))
    return Model("digits", "1", network, labels, preprocessing, ARCH, "sha256:random", {})


def tuned(base: Model, data: Sequence[Example], way: str, seed: int, steps: int):
    values: dict[str, float | bool] = {"flip": False}
    if way != "feature_extractor":
        per_epoch = math.ceil(0.8 * sum(each.split == "train" for each in data) / BATCH)
        epochs = max(EPOCHS, math.ceil(steps / per_epoch))
        values |= {"epochs": epochs, "patience": epochs, "batch_size": BATCH, "crop": 0.8, "train_batchnorm": True}
        values |= {"spread": 1.0} if way == "fine_tune" else {}  # as from scratch: all layers learn at one rate
    return finetune(base, data, make_recipe(way, values), seed=seed)


def by_class() -> list[np.ndarray]:
    """Of each class its digits, (500, 28, 28) uint8."""
    images, classes = digits()
    pixels = (images[:, 0] * 255).round().byte().numpy()
    return [pixels[(classes == label).numpy()] for label in range(10)]


def example(pool: Sequence[np.ndarray], label: int, number: int, split: str) -> Example:
    file = io.BytesIO()
    Image.fromarray(pool[label][number]).save(file, "PNG")
    content = file.getvalue()
    return Example(f"{label} {number}", str(label), hashlib.sha256(content).hexdigest(), partial(bytes, content), split)


def chart(path: Path, right: Mapping[str, Mapping[int, Sequence[float]]]) -> None:
    """Mean over the draws, from the least to the greatest of them as a band."""
    figure, axes = plt.subplots(figsize=(6.4, 3.8))
    for way, (name, colour) in WAYS.items():
        counts = [len(NOW) * count for count in right[way]]
        drawn = list(right[way].values())
        axes.plot(counts, [np.mean(each) for each in drawn], "o-", color=colour, label=name)
        low, high = ([end(each) for each in drawn] for end in (min, max))
        axes.fill_between(counts, low, high, color=colour, alpha=0.18, lw=0)
    axes.axhline(1 / len(NOW), color="black", lw=0.8, ls=":")
    axes.text(counts[-1], 0.21, "chance", fontsize=8, ha="right")
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="labelled digits of 5 to 9", ylabel="right, of 500 held-out digits", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    save(path, figure)


if __name__ == "__main__":
    main(draw, "transfer.jpg", __doc__)
