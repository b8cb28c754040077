"""What the report of a segmentation holds, before it is written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from ouzel.finetune import staged
from ouzel.finetune.segmentation.comparison import Beside
from ouzel.finetune.segmentation.segmented import Segmented


@dataclass(frozen=True, eq=False)
class ShownMasks:
    """One test image.

    Attributes:
        name: Of the image.
        miou: Over the classes that its labels or its prediction have.
        picture: (H, W, 3) uint8, what the network sees.
        truth: (H, W) uint8.
        predicted: (H, W) uint8.
        looks: (H, W, 3) uint8, the map over the picture.
        looked_for: The class of the map.
    """

    name: str
    miou: float
    picture: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    looks: np.ndarray
    looked_for: str


@dataclass(frozen=True, eq=False)
class SegmentationReport:
    """What is told of a segmentation.

    Attributes:
        made: The training.
        created: When, in UTC.
        base: NAME@VERSION.
        looked: What the maps are of, in a sentence.
        worst: The images with the lowest mean IoU, first the worst.
        served: The version that was served until now; None if there was none.
    """

    made: Segmented
    created: datetime
    base: str
    looked: str
    worst: tuple[ShownMasks, ...]
    served: Beside | None


def kept_epoch(made: Segmented) -> int | None:
    """The epoch whose weights were kept: of the highest mean IoU, of equals the least loss, the first."""
    return staged.kept_epoch(made.history, "miou", chosen=bool(made.split.validation))
