"""Ten filters of each of five blocks, early to late, and which of them the search failed for.

    python examples/lecture/filters.py    # docs/lecture/filters.jpg

The filters are evenly spread over a block's layer: none is chosen by how it looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from common import FAILED, Tile, imagenet_network, main, sheet
from skimage import data
from torch import Tensor

from ouzel.maximize import Channel, FourierRecipe, maximize, search

LAYERS = ("blocks.0.0.bn1", "blocks.1.1.bn2", "blocks.2.1.bn2", "blocks.4.2.bn2", "blocks.6.0.bn2")  # with rectifier
SHOWN = 10
EDGE = 112  # pixels
BETTER = 0.05  # than a grey image, at least, of values from 0 to 6; else the search has failed
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry", "retina")


def draw(path: Path, steps: int = 64, layers: Sequence[str] = LAYERS, shown: int = SHOWN) -> None:
    model = imagenet_network()
    grey = [("grey", torch.full((3, EDGE, EDGE), 0.5))]  # from which the search starts
    real = [(name, photograph(name)) for name in PHOTOGRAPHS]
    rows, names = [], []
    for layer in layers:
        count = model.network.get_submodule(layer).num_features
        nodes = [Channel(layer, number * count // shown) for number in range(shown)]
        found = maximize(model, nodes, recipe=FourierRecipe(steps=steps), size=(EDGE, EDGE)).visualizations
        row = []
        for each, *others in zip(
            found, *(search(model, nodes, images, top_k=1) for images in (grey, real)), strict=True
        ):
            start, best = (other.hits[0].activation for other in others)
            failed = each.activation <= start + BETTER
            title = f"{nodes[len(row)].channel}: {each.activation:.2f}"
            row.append(Tile(each.image, title, FAILED if failed else "black"))
            print(
                f"{layer}, filter {title}, grey {start:.2f}, best photograph {best:.2f}{' FAILED' * failed}", flush=True
            )
        rows.append(row)
        names.append(f"{layer}\n{count} filters")
    sheet(path, rows, names=names, inches=1.1)


def photograph(name: str) -> Tensor:
    """The middle of a photograph as the network sees it, (3, 224, 224) in [0, 1]."""
    image = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1).float() / 255
    edge = min(image.shape[1:])
    top, left = ((side - edge) // 2 for side in image.shape[1:])
    square = image[:, top : top + edge, left : left + edge]
    return torch.nn.functional.interpolate(square[None], (224, 224), mode="bilinear", antialias=True)[0]


if __name__ == "__main__":
    main(draw, "filters.jpg", __doc__)
