"""What ImageNet's weights are worth, over the number of labelled images: digits, learnt in three ways.

    python examples/lecture/transfer.py    # docs/lecture/transfer.jpg

The same network and the same held-out digits each time. Few digits are drawn twice; a point is the mean of both.
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
from common import digits, imagenet_network, main, save
from matplotlib import pyplot as plt
from PIL import Image

from ouzel.finetune import Example, finetune, make_recipe
from ouzel.models import Model

COUNTS = {3: 2, 10: 2, 30: 2, 100: 1, 300: 1}  # of each of the ten classes: how often they are drawn
EDGE = 48  # pixels of the network's input
HELD_OUT = 50  # of each class
STEPS = 100  # at least; of 16 digits
EPOCHS = 2  # at least
WAYS = {  # recipe: what the legend says, colour
    "feature_extractor": ("feature extractor: the head alone", "#3b76af"),
    "lp_ft": ("fine-tuning: the head, then all layers", "#3a8a4f"),
    "scratch": ("scratch: random weights", "#888888"),
}


def draw(path: Path, counts: Mapping[int, int] = COUNTS, steps: int = STEPS) -> None:
    base, pool = imagenet_network(), by_class()
    test = [example(pool, label, -1 - n, "test") for label in range(10) for n in range(HELD_OUT)]
    right: dict[str, dict[int, list[float]]] = {way: {count: [] for count in counts} for way in WAYS}
    for seed in range(max(counts.values())):
        order = np.random.default_rng(seed)
        drawn = [order.permutation(len(digits) - HELD_OUT) for digits in pool]
        for count in [each for each, draws in counts.items() if seed < draws]:
            train = [example(pool, label, n, "train") for label in range(10) for n in drawn[label][:count]]
            for way in WAYS:
                begun = time.monotonic()
                right[way][count].append(accuracy(base, [*train, *test], way, seed, steps))
                took = time.monotonic() - begun
                print(f"{way}, {10 * count} digits: right on {right[way][count][-1]:.1%} ({took:.0f} s)", flush=True)
    chart(path, right)


def accuracy(base: Model, data: Sequence[Example], way: str, seed: int, steps: int) -> float:
    """Of the held-out digits."""
    values: dict[str, float | bool] = {"flip": False}
    if way != "feature_extractor":
        per_epoch = math.ceil(0.8 * sum(each.split == "train" for each in data) / 16)
        epochs = max(EPOCHS, math.ceil(steps / per_epoch))
        values |= {"epochs": epochs, "patience": epochs, "batch_size": 16, "crop": 0.8}
    return finetune(base, data, make_recipe(way, values), seed=seed, image_size=EDGE).test.accuracy


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
        counts = [10 * count for count in right[way]]
        drawn = list(right[way].values())
        axes.plot(counts, [np.mean(each) for each in drawn], "o-", color=colour, label=name)
        low, high = ([end(each) for each in drawn] for end in (min, max))
        axes.fill_between(counts, low, high, color=colour, alpha=0.18, lw=0)
    axes.axhline(0.1, color="black", lw=0.8, ls=":")
    axes.text(counts[-1], 0.115, "chance", fontsize=8, ha="right")
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="labelled digits", ylabel="right, of 500 held-out digits", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    save(path, figure)


if __name__ == "__main__":
    main(draw, "transfer.jpg", __doc__)
