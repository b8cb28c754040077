"""Ten filters of each of five blocks, early to late; the failed ones are marked by their own activation.

    python examples/lecture/filters.py    # docs/lecture/filters.jpg

Filters of EfficientNet-Lite0 behind their rectifiers (ReLU6), from the first one on in equal steps. A red frame marks
an image that does not excite its filter, or that excites it less than one of four photographs does.
"""

from __future__ import annotations

from pathlib import Path

from common import FAILED, Tile, imagenet_network, main, photographs, sheet

from ouzel.maximize import Channel, FourierRecipe, maximize

# The last rectifier of a block and how many filters it has.
LAYERS = {"blocks.0.0.bn1": 32, "blocks.1.1.bn1": 144, "blocks.3.2.bn1": 480, "blocks.5.3.bn1": 1152, "bn2": 1280}
EACH = 10


def draw(path: Path, steps: int = 128, size: int = 128) -> None:
    model = imagenet_network()
    data = list(photographs(size).items())
    rows = []
    for layer, filters in LAYERS.items():
        nodes = [Channel(layer, number * (filters // EACH)) for number in range(EACH)]
        found = maximize(model, nodes, recipe=FourierRecipe(steps=steps), size=(size, size), data=data).visualizations
        rows.append([])
        for one in found:
            best = one.best_of_data.activation
            failed = one.activation <= max(0.0, best)
            caption = f"{one.node.channel}: {one.activation:.2f} ({best:.2f})"
            rows[-1].append(Tile(one.image, caption, FAILED if failed else "black"))
        print(layer, [tile.caption for tile in rows[-1] if tile.colour == FAILED], flush=True)
    sheet(path, rows, names=list(LAYERS), inches=1.15)


if __name__ == "__main__":
    main(draw, "filters.jpg", __doc__)
