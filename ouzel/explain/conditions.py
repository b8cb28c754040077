"""Whether the condition holds under which a row wants maps, now that its prediction is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ouzel import models
from ouzel.explain.plan import Condition, Plan


def skipped(plans: Sequence[Plan], labels: Sequence[str], logits: Tensor, probabilities: Tensor) -> list[str]:
    """Why each row's condition does not hold, or nothing; takes a look at the prediction, which waits for it.

    Args:
        plans: Of the rows.
        labels: Of the classes.
        logits: (B, K).
        probabilities: (B, K).
    """
    score, best = probabilities.max(dim=1)
    seen = torch.stack([best.double(), score.double(), models.entropy(logits).double()], dim=1).tolist()
    return [_unmet(plan.when, labels, int(best), *rest) for plan, (best, *rest) in zip(plans, seen, strict=True)]


def skipped_of_areas(plans: Sequence[Plan], labels: Sequence[str], areas: Tensor) -> list[str]:
    """The same of a segmentation model, of which a condition can only ask whether a class is there.

    Args:
        plans: Of the rows.
        labels: Of the classes.
        areas: (B, K) share of each class.
    """
    reasons = []
    for plan, row in zip(plans, areas.tolist(), strict=True):
        wanted = None if plan.when is None else plan.when.classes
        met = wanted is None or any(row[index] > 0 for index in wanted)
        there = [labels[index] for index, area in enumerate(row) if area > 0]
        reasons.append("" if met else f"when.labels: none of them is among the prediction's {there!r:.200}")
    return reasons


def _unmet(when: Condition | None, labels: Sequence[str], best: int, score: float, entropy: float) -> str:
    if when is None:
        return ""
    if when.score_below is not None and not score < when.score_below:
        return f"when.score_below: the score {score:.4f} is not below {when.score_below:g}"
    if when.entropy_above is not None and not entropy > when.entropy_above:
        return f"when.entropy_above: the entropy {entropy:.4f} is not above {when.entropy_above:g}"
    if when.classes is not None and best not in when.classes:
        return f"when.labels: the prediction {labels[best]!r} is not among them"
    return ""
