"""Class images of the ten digits, from a network of four layers.

    python examples/lecture/digits.py    # docs/lecture/digits.jpg

The image in [0, 1] that gives the largest logit of each digit, once with what a lecture begins with (`pixel`: the norm
and the total variation), once with the default (`fourier`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from common import Tile, digits, digits_network, main, sheet

from ouzel.maximize import ClassLogit, FourierRecipe, Pixel, maximize, search


def draw(path: Path, steps: int = 256, epochs: int = 3) -> None:
    images, classes = digits()
    network = digits_network(images, classes, epochs)
    nodes = [ClassLogit(digit) for digit in range(10)]
    best = search(network, nodes, [(str(n), image) for n, image in enumerate(images)], top_k=1)
    rows = [[Tile(images[int(one.hits[0].name)], f"{one.hits[0].activation:.1f}") for one in best]]
    for recipe in (Pixel(steps=steps), FourierRecipe(steps=steps)):
        found = maximize(network, nodes, recipe=recipe, size=(28, 28), channels=1).visualizations
        with torch.no_grad():
            probabilities = network(torch.stack([one.image for one in found])).softmax(1)
        rows.append(
            [
                Tile(one.image, f"{one.activation:.1f}, p = {p[digit]:.2f}")
                for digit, (one, p) in enumerate(zip(found, probabilities, strict=True))
            ]
        )
    with torch.no_grad():
        right = (network(images).argmax(1) == classes).float().mean()
    print(f"right on {right:.1%} of the digits that it has learnt")
    sheet(path, rows, names=("best of 5,000", "pixel", "fourier"), inches=1.0)


if __name__ == "__main__":
    main(draw, "digits.jpg", __doc__)
