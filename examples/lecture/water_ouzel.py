"""The class "water ouzel", for which Ouzel is named: what EfficientNet-Lite0 wants to see.

python examples/lecture/water_ouzel.py    # docs/lecture/water_ouzel.jpg
"""

from __future__ import annotations

from pathlib import Path

from common import FAILED, Tile, imagenet_network, main, sheet

from ouzel.maximize import ClassLogit, FourierRecipe, judge, maximize

NAME = "water ouzel"
# Softer than the defaults, with which other networks believe most classes more, and a person sees no bird in this one.
SOFT = {"decay": 1.25, "noise": 0.03, "anneal": 0.6, "coarse_to_fine": 0.0}


def draw(path: Path, steps: int = 128, seeds: tuple[int, ...] = (0, 1), size: int = 0) -> None:
    model = imagenet_network()
    edges = (size, size) if size else None
    tiles = []
    for seed in seeds:
        recipe = FourierRecipe(steps=steps, **SOFT)
        found = maximize(model, [ClassLogit(NAME)], recipe=recipe, seed=seed, size=edges).visualizations
        (verdict,) = judge(model, found)
        caption = f"logit {found[0].activation:.1f}\n{verdict.label}, p = {verdict.probability:.2f}"
        tiles.append(Tile(found[0].image, caption, "black" if verdict.rank == 1 else FAILED))
        print(caption, flush=True)
    sheet(path, [tiles], inches=2.3)


if __name__ == "__main__":
    main(draw, "water_ouzel.jpg", __doc__)
