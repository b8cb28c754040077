"""What the report of a detector holds, before it is written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from ouzel.finetune import staged
from ouzel.finetune.detection.comparison import Beside
from ouzel.finetune.detection.detected import Detected


@dataclass(frozen=True, eq=False)
class ShownBoxes:
    """One test image.

    Attributes:
        name: Of the image.
        rating: How good its detections are, in [0, 1]; see `ouzel.finetune.detection.score.rating`.
        truth: (H, W, 3) uint8, the picture with the boxes that are right.
        found: (H, W, 3) uint8, with those that were found.
        looks: (H, W, 3) uint8, what the network looked at for one of them; None if it found nothing.
        looked_for: That detection, in words.
    """

    name: str
    rating: float
    truth: np.ndarray
    found: np.ndarray
    looks: np.ndarray | None
    looked_for: str


@dataclass(frozen=True, eq=False)
class DetectionReport:
    """What is told of a detector.

    Attributes:
        made: The training.
        created: When, in UTC.
        base: NAME@VERSION.
        ratings: Of each test image.
        worst: The images with the lowest rating, first the worst.
        served: The version that was served until now; None if there was none.
    """

    made: Detected
    created: datetime
    base: str
    ratings: tuple[float, ...]
    worst: tuple[ShownBoxes, ...]
    served: Beside | None


def kept_epoch(made: Detected) -> int | None:
    """The epoch whose weights were kept: of the highest mAP, of equals the least loss, the first."""
    return staged.kept_epoch(made.history, "map", chosen=bool(made.split.validation))
