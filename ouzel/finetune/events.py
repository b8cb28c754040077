"""What a training tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """What a run tells.

    Attributes:
        phase: "starting", "features", "head", "training" or "validating".
        step: Of `steps` in the phase; workers where it is "starting", images where it is "features" or "validating".
        steps: Of the phase.
        metrics: loss, accuracy (of validation), learning_rate, images_per_second, seconds_left, epoch (passes done,
            with their fraction), as far as the phase has them.
        state: Gives all that is needed to go on from here; None where that is the start of the phase.
    """

    phase: str
    step: int
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    state: Callable[[], dict[str, Any]] | None = None


TELL = 10.0  # s between two events while other processes start


def starting(workers: int) -> Event:
    """That so many workers start, of which none can compute yet."""
    return Event("starting", 0, workers)


OnEvent = Callable[[Event], None]
