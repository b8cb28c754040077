"""Gradient ascent with and without regularizers: noise, then shape.

    python examples/lecture/regularizers.py    # docs/lecture/regularizers.jpg

The same steps, the same seed; from left to right one aid after the other.
"""

from __future__ import annotations

from pathlib import Path

from common import Tile, imagenet_network, main, sheet

from ouzel.maximize import ClassLogit, FourierRecipe, Pixel, judge, maximize

CLASSES = ("goldfish",)
TV = 3000.0  # its weight; the default, 100, is for small images


def draw(path: Path, steps: int = 64, size: int = 0) -> None:
    model = imagenet_network()
    plain = {"steps": steps, "norm_weight": 0.0, "tv_weight": 0.0, "jitter": 0.0, "unchanged": 1.0}
    recipes = {
        "ascent alone": Pixel(**plain),
        "norm, total variation": Pixel(**plain | {"norm_weight": 1.0, "tv_weight": TV}),
        "and random views": Pixel(steps=steps, tv_weight=TV, unchanged=0.0, jitter=0.25, zoom_range=1.0, rotate=20.0),
        "fourier": FourierRecipe(steps=steps),
    }
    nodes = [ClassLogit(name) for name in CLASSES]
    columns = []
    for name, recipe in recipes.items():
        found = maximize(model, nodes, recipe=recipe, size=(size, size) if size else None).visualizations
        columns.append(
            [
                Tile(one.image, f"{name}\nlogit {one.activation:.1f}, p = {_of(one.title, verdict):.2f}")
                for one, verdict in zip(found, judge(model, found), strict=True)
            ]
        )
        print(name, flush=True)
    sheet(path, list(zip(*columns, strict=True)), names=CLASSES, inches=2.0)


def _of(label: str, verdict) -> float:
    """The probability of the class that was sought, where it is the first choice; else 0 says enough."""
    return verdict.probability if verdict.label == label else 0.0


if __name__ == "__main__":
    main(draw, "regularizers.jpg", __doc__)
