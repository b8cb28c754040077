"""Where the network looked: the gradient and guided backpropagation of one photograph.

python examples/lecture/saliency.py    # docs/lecture/saliency.jpg
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from common import Tile, imagenet_network, main, sheet
from PIL import Image
from skimage import data
from torch import Tensor

from ouzel.saliency import Explainer, Saliency

METHODS = ("gradient", "guided", "grad_cam")


def draw(path: Path) -> None:
    model = imagenet_network()
    explainer = Explainer(model)
    rows = []
    for name in ("chelsea", "coffee"):
        photograph = Image.fromarray(getattr(data, name)())
        x = model.preprocessing(photograph)[None]
        e = explainer(x, [Saliency(method) for method in METHODS])
        first = int(e.logits[0].argmax())
        shown = x[0] * Tensor(model.preprocessing.std)[:, None, None] + Tensor(model.preprocessing.mean)[:, None, None]
        caption = f"{model.labels[first]}, p = {float(e.logits[0].softmax(0)[first]):.2f}"
        rows.append([Tile(shown, caption), *(Tile(grey(each.values[0]), each.method) for each in e.maps)])
    sheet(path, rows, inches=1.9)


def grey(values: Tensor) -> np.ndarray:
    """(H, W) of uint8, full at the 99.5th percentile: a few pixels do not darken the rest."""
    full = np.percentile(values.numpy(), 99.5)
    return (255 * np.clip(values.numpy() / full, 0, 1)).round().astype(np.uint8)


if __name__ == "__main__":
    main(draw, "saliency.jpg", __doc__)
