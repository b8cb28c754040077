"""From the answers for changed pictures to what a data-set audit counts. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from ouzel.audit.counterfactuals import Change
from ouzel.audit.dataset.rows import Flips
from ouzel.audit.evidence import Effect, Outcome
from ouzel.audit.verdict import CONVICTING

# (change, kind of fill) and its control, for each test; the first of which both exist counts.
_Arm = tuple[Change, str | None]
_BACKGROUND: tuple[tuple[_Arm, _Arm], ...] = (
    (("background", "scene"), ("same_background", "scene")),
    (("background", "texture"), ("rearranged", None)),
)
_OBJECT: tuple[tuple[_Arm, _Arm], ...] = (
    (("other_object", "scene"), ("same_object", "scene")),
    (("object", None), ("elsewhere", None)),
)


def weight(effects: Sequence[Effect]) -> float:
    """How much the background counts beyond the object, in [-1, 1]; 0 if either was not tried."""
    behind = [each.effect for each in effects if each.change == "background" and each.kind in CONVICTING]
    before = [each.effect for each in effects if each.change != "background"]
    return max(-1.0, min(1.0, max(behind) - max(0.0, *before))) if behind and before else 0.0


def flips(outcomes: Sequence[Outcome]) -> Flips | None:
    """Whether the changes turn the prediction; None if one of them, or its control, was not possible."""
    background, other = _first(outcomes, _BACKGROUND), _first(outcomes, _OBJECT)
    return None if background is None or other is None else Flips(*background, *other)


def _first(outcomes: Sequence[Outcome], tests: Sequence[tuple[_Arm, _Arm]]) -> tuple[bool, bool] | None:
    for test in tests:
        changed, control = (
            [each.flipped for each in outcomes if each.change == change and kind in (None, each.kind)]
            for change, kind in test
        )
        # As many of both: more than half of one and more than half of three are not equally likely.
        count = min(len(changed), len(control))
        if count:
            return 2 * sum(changed[:count]) > count, 2 * sum(control[:count]) > count
    return None
