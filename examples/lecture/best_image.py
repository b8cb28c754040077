"""The training images that excite a node most, and the image that was optimised for it.

    python examples/lecture/best_image.py    # docs/lecture/best_image.jpg

The first hidden units of the digits network that any of its 5,000 training images excites.
"""

from __future__ import annotations

from pathlib import Path

from common import FAILED, Tile, digits, digits_network, main, sheet

from ouzel.maximize import Channel, Pixel, maximize, search

UNITS = 64
SHOWN = 8


def draw(path: Path, steps: int = 256, epochs: int = 3) -> None:
    images, classes = digits()
    network = digits_network(images, classes, epochs)
    data = [(str(n), image) for n, image in enumerate(images)]
    every = search(network, [Channel("fc1", unit) for unit in range(UNITS)], data, top_k=3)
    alive = [each for each in every if each.hits[0].activation > 0]
    print(f"{UNITS - len(alive)} of {UNITS} units are above zero for none of the images")
    shown = alive[:SHOWN]
    recipe = Pixel(steps=steps)
    found = maximize(network, [each.node for each in shown], recipe=recipe, size=(28, 28), channels=1).visualizations
    rows = []
    for place in range(3):
        hits = [each.hits[place] for each in shown]
        rows.append([Tile(images[int(hit.name)], f"{hit.activation:.1f}") for hit in hits])
    pairs = zip(found, shown, strict=True)
    rows.append(
        [
            Tile(one.image, f"{one.activation:.1f}", "black" if one.activation > best.hits[0].activation else FAILED)
            for one, best in pairs
        ]
    )
    rows[0] = [Tile(t.image, f"unit {e.node.channel}\n{t.caption}") for t, e in zip(rows[0], shown, strict=True)]
    sheet(path, rows, names=("best image", "second", "third", "optimised"), inches=1.1)


if __name__ == "__main__":
    main(draw, "best_image.jpg", __doc__)
