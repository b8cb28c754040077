"""Where a training stands: all that it must know to go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Progress:
    """Where a training stands. history: a row of figures per epoch. elapsed: seconds of all its attempts.

    steps: taken so far, of the head alone and of all layers together. out_of_time: whether the deadline ended it before
    the recipe did.
    """

    epoch: int = 0
    step: int = 0  # within the epoch
    stage: int = 0  # 0: the head alone, 1: all layers
    best: dict[str, Tensor] | None = None
    best_key: tuple[float, float] = (-1.0, 0.0)
    improved: bool = False  # whether training has beaten what it began with
    stale: int = 0  # epochs since it got better
    history: list[dict[str, float]] = field(default_factory=list)
    elapsed: float = 0.0
    loss: float = math.nan  # of the last step
    steps: int = 0
    out_of_time: bool = False


def progress_from(state: Mapping[str, Any]) -> Progress:
    """What `Event.state` has put down."""
    values = dict(state["progress"])
    values["best_key"] = tuple(values["best_key"])
    return Progress(**values)
