"""What pretrained features are worth, over the number of labelled images.

    python examples/lecture/transfer.py    # docs/lecture/transfer.jpg

Digits, which ImageNet does not have. Runs are kept in build/lecture/transfer.jsonl: what was ended goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from common import OUT, digits, imagenet_network, save
from matplotlib import pyplot as plt
from PIL import Image
from torch import Tensor

from ouzel.finetune import Example, finetune, make_recipe

EDGE = 48  # pixels
BATCH = 16
NAMES = {"feature_extractor": "feature extractor", "fine_tune": "fine-tuning", "scratch": "from scratch"}
_COLOURS = {"feature_extractor": "#3b76af", "fine_tune": "#3a8a4f", "scratch": "#888888"}
_COMMON = {"flip": False}
_TRAINED = _COMMON | {"batch_size": BATCH, "crop": 0.8}


def values(recipe: str, count: int, steps: int) -> dict:
    """Parameters with which each number of images is learnt from in as many steps."""
    if recipe == "feature_extractor":
        return _COMMON
    epochs = max(1, round(steps / -(-0.8 * count // BATCH)))  # a fifth of the images is for choosing
    rate = {"learning_rate": 3e-3} if recipe == "scratch" else {}
    return _TRAINED | rate | {"epochs": epochs, "patience": epochs}


def examples(images: Tensor, classes: Tensor, rows: Sequence[int], split: str) -> list[Example]:
    made = []
    for row in rows:
        file = io.BytesIO()
        Image.fromarray((images[row, 0] * 255).round().byte().numpy()).convert("RGB").save(file, "PNG")
        content = file.getvalue()
        label = str(int(classes[row]))
        made.append(Example(str(row), label, hashlib.sha256(content).hexdigest(), lambda c=content: c, split))
    return made


def balanced(classes: Tensor, seed: int) -> list[int]:
    """All rows in chance order, the digits taking turns."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(classes), generator=generator)
    of = [[int(row) for row in order if classes[row] == digit] for digit in range(10)]
    return [row for turn in zip(*of, strict=True) for row in turn]


def measure(path: Path, counts: Sequence[int], seeds: Sequence[int], steps: int, tests: int) -> list[dict]:
    path.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    base, (images, classes) = imagenet_network(), digits()
    for seed in seeds:
        order = balanced(classes, seed)
        test = examples(images, classes, order[-tests:], "test")
        for count in counts:
            train = examples(images, classes, order[:count], "")
            for recipe in NAMES:
                key = {"n": count, "seed": seed, "recipe": recipe, "steps": steps, "tests": tests}
                if any(key.items() <= row.items() for row in known):
                    continue
                begun = time.process_time()
                how = make_recipe(recipe, values(recipe, count, steps))
                tuned = finetune(base, [*train, *test], how, seed=seed, image_size=EDGE, cache=path.parent / "features")
                known.append(key | {"accuracy": tuned.test.accuracy, "seconds": time.process_time() - begun})
                with path.open("a") as file:
                    file.write(json.dumps(known[-1]) + "\n")
                print(known[-1], flush=True)
    return known


def chart(path: Path, rows: Sequence[dict], counts: Sequence[int]) -> None:
    figure, axes = plt.subplots(figsize=(6.2, 3.6))
    for recipe, name in NAMES.items():
        of = {n: [row["accuracy"] for row in rows if (row["recipe"], row["n"]) == (recipe, n)] for n in counts}
        there = [n for n in counts if of[n]]
        axes.plot(there, [np.mean(of[n]) for n in there], "o-", label=name, color=_COLOURS[recipe])
        least, most = [min(of[n]) for n in there], [max(of[n]) for n in there]
        axes.fill_between(there, least, most, color=_COLOURS[recipe], alpha=0.18, lw=0)
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{n:,}" for n in counts])
    axes.minorticks_off()
    axes.set(xlabel="labelled digits", ylabel="accuracy on others", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    save(path, figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--runs", type=Path, default=Path("build/lecture/transfer.jsonl"))
    parser.add_argument("--counts", type=int, nargs="+", default=(30, 100, 300, 1000, 4000))
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1))
    parser.add_argument("--steps", type=int, default=300, help="of 16 images")
    parser.add_argument("--tests", type=int, default=500, help="digits to measure on")
    asked = parser.parse_args()
    rows = measure(asked.runs, asked.counts, asked.seeds, asked.steps, asked.tests)
    chart(asked.out / "transfer.jpg", rows, asked.counts)


if __name__ == "__main__":
    main()
