"""Whether a training got better than the head that it began with, on the same held-out images.

What counts as better: more of the images are right. As many are not better, whatever the loss. How likely chance alone
would do that is told, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ouzel.finetune.report.comparison import compare_trainings
from ouzel.finetune.tuned import Tuned


@dataclass(frozen=True)
class Improvement:
    """A training beside its head alone, on the same held-out images.

    Attributes:
        better: Whether it is better.
        same: Whether both are the same network: the training did not get better by the images that are chosen by.
        reason: Why, in a sentence with its figures.
        figures: The comparison for programs; of classifiers fixed (only the training is right), broken (only the head
            alone is right) and p (McNemar), of segmentations gain, gain_low and gain_high of the mean IoU.
    """

    better: bool
    same: bool
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)


def improvement(first: Tuned, later: Tuned) -> Improvement:
    """Compare a training with its head alone.

    Args:
        first: What `early` of `finetune` was given.
        later: What that call returned.
    """
    if later.chosen == first.chosen:
        return Improvement(False, True, unchanged(later.out_of_time))
    beside = compare_trainings(first, later, first.chosen)
    fixed, broken = len(beside.fixed), len(beside.broken)
    better = fixed > broken
    reason = (
        f"{'better' if better else 'not better'}: {_right(later)} of {first.test.images} held-out images are right, "
        f"and {_right(first)} with the head alone ({fixed} became right and {broken} wrong, McNemar p = "
        f"{beside.p:.2g})"
    )
    return Improvement(better, False, reason, {"fixed": fixed, "broken": broken, "p": beside.p})


def _right(tuned: Tuned) -> int:
    return sum(tuned.test.confusion[k][k] for k in range(len(tuned.labels)))


def unchanged(out_of_time: bool) -> str:
    """Why there is nothing but the head alone."""
    limit = " within the time limit" if out_of_time else ""
    return f"not better: on the validation images, nothing was better than the head alone{limit}"
