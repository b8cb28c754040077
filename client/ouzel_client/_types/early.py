"""What a fine-tuning says of the version that it has published early, and of what came after it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """The head alone, or the training that followed.

    Attributes:
        version: That it was published as; "" if it was not published.
        accuracy: Share of the held-out images that it classifies correctly, the mean IoU of a segmentation, or the mAP
            of a detector, in [0, 1].
        interval: The 95 % confidence interval of that.
        promoted: Whether it became the default when it was published.
        served: Whether it was served then.
    """

    version: str
    accuracy: float
    interval: tuple[float, float]
    promoted: bool
    served: bool


@dataclass(frozen=True)
class EarlyOutcome:
    """The two steps of a job that answers early, on the same held-out images.

    Attributes:
        first: The head alone, which was published before all layers learnt.
        later: What all layers came to.
        better: Whether that was better, and so became the next version.
        reason: Why, in a sentence with its figures.
    """

    first: Step
    later: Step
    better: bool
    reason: str


def early_of(figures: Mapping[str, Any]) -> EarlyOutcome | None:
    """The outcome in a summary; None if the job did not answer early."""
    early = figures.get("early")
    if not isinstance(early, Mapping):
        return None
    first, later = (_step(early.get(name, {})) for name in ("first", "later"))
    return EarlyOutcome(first, later, early.get("better", False), early.get("reason", ""))


def measure_of(figures: Mapping[str, Any]) -> str:
    """The figure that versions are compared by: that of a segmentation, of a detector, or of a classifier."""
    return next((name for name in ("miou", "map") if name in figures), "accuracy")


def _step(values: Mapping[str, Any]) -> Step:
    measure = measure_of(values)
    figure, low, high = (values.get(f"{measure}{end}", math.nan) for end in ("", "_low", "_high"))
    return Step(
        values.get("version", ""), figure, (low, high), values.get("promoted", False), values.get("served", False)
    )
