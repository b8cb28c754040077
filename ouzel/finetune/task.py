"""What a training learns where it is not the class of an image, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ouzel.errors import FailedPrecondition
from ouzel.finetune.progress import Progress
from ouzel.finetune.steps import Loss, Vary


class Diverged(FailedPrecondition):
    """The loss is not a finite number any more. The best weights until then are in the last state."""


@dataclass(frozen=True)
class Task:
    """What is learnt, where it is not the class of a whole image.

    Attributes:
        vary: What is done to the images.
        loss: What is minimised.
        measure: The figures of an epoch, and a key by which the best epoch is chosen, of a `Training` as it stands.
        figure: The figure that is told with each step.
        new_norms: Whether BatchNorms of the head begin with no statistics, and must learn them.
    """

    vary: Vary
    loss: Loss
    measure: Callable[[Any, Progress], tuple[Mapping[str, float], tuple[float, float]]]
    figure: str
    new_norms: bool = False


State = Callable[[], dict[str, Any]]
OnEpoch = Callable[[Mapping[str, float]], None]
