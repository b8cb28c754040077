"""Rendered to real: scenes with exact label maps, and what they are worth where photographs have few.

    python examples/lecture/rendered.py    # docs/lecture/rendered.jpg

Draws the runs of examples/rendered/runs.jsonl; `make rendered` makes them again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from common import main, save
from matplotlib import pyplot as plt

from ouzel.finetune.segmentation.page import painted

sys.path.insert(0, str(Path(__file__).parents[1] / "rendered"))
import curve
import scenes

RUNS = Path(curve.__file__).parent
SHOWN = 4  # scenes
SIZE = 96  # pixels
STEPS = 120


def draw(path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2), width_ratios=(1, 2.1))
    drawn = [scenes.render(0, number, SIZE) for number in range(SHOWN)]
    rows = [np.concatenate([picture, painted(picture, labels, scenes.CLASSES)], 1) for picture, labels in drawn]
    left.imshow(np.concatenate(rows))
    left.set_title("rendered scenes, label maps", fontsize=8)
    left.axis("off")
    curve.curves(right, curve.rows(RUNS), STEPS)
    figure.tight_layout()
    save(path, figure)


if __name__ == "__main__":
    main(draw, "rendered.jpg", __doc__)
