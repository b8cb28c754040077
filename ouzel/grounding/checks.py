"""The conditions of the gate, each with its figures in a sentence.

References:
    Piaggio et al. 2012, "Reporting of noninferiority and equivalence randomized trials", JAMA 308, 2594-2604.
    McNemar 1947, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ouzel.audit.dataset import Comparison, DatasetDesign, DatasetEvidence, ImageRow, PairedTest
from ouzel.audit.dataset.statistics import compare, mcnemar, paired_interval
from ouzel.grounding.margins import GateMargins

_NAMED = 3  # classes in a sentence


@dataclass(frozen=True)
class AccuracyPairs:
    """Two versions on the same held-out images.

    Attributes:
        fixed: Images that the new version alone gets right.
        broken: Images that the present default alone gets right.
        both: Images that both get right.
        images: All.
    """

    fixed: int
    broken: int
    both: int
    images: int


@dataclass(frozen=True)
class Check:
    """One condition of the gate.

    Attributes:
        name: "accuracy", "reliance", "control" or "classes".
        passed: Whether it holds.
        reason: In a sentence, with its figures and the margin.
        figures: The same for programs, of JSON's types.
    """

    name: str
    passed: bool
    reason: str
    figures: Mapping[str, Any] = field(default_factory=dict)


def accuracy_check(pairs: AccuracyPairs, margin: float) -> Check:
    """Whether the new version is not less right by the margin: a test of non-inferiority on pairs.

    Args:
        pairs: One image or more.
        margin: Share of the images.
    """
    test = mcnemar(pairs.both, pairs.fixed, pairs.broken, pairs.images)
    low, high = paired_interval(test)
    new, old = pairs.both + pairs.fixed, pairs.both + pairs.broken
    difference = (pairs.fixed - pairs.broken) / pairs.images
    passed = low > -margin
    reason = (
        f"The new version is right on {new} of {pairs.images} held-out images, the present default on {old} "
        f"({_points(difference)}, 95 % {_points(low)} to {_points(high)}): "
        f"{'not less' if passed else 'that it is not less'} by {_size(margin)} or more"
        f"{'' if passed else ' is not shown'}."
    )
    figures = {
        "new": new / pairs.images,
        "present": old / pairs.images,
        **_paired(test, low, high),
    }
    return Check("accuracy", passed, reason, figures)


def reliance_check(turned: Sequence[tuple[bool, bool]], margin: float, alpha: float, fewest: int) -> Check:
    """Whether the new version does not rest more on backgrounds, on the images that both versions get right.

    Args:
        turned: Of each image whether another background, and not its control, turns the new version's prediction, and
            that of the present default.
        margin: Share of the images.
        alpha: Of the exact test that more are turned.
        fewest: Images that a verdict needs.
    """
    only_new = sum(new and not old for new, old in turned)
    only_old = sum(old and not new for new, old in turned)
    both = sum(new and old for new, old in turned)
    if len(turned) < max(1, fewest):
        reason = (
            f"Both versions are right on {len(turned)} images with a known object that could be tried; a verdict on "
            f"backgrounds needs {fewest}."
        )
        return Check("reliance", False, reason, {"pairs": len(turned)})
    test = mcnemar(both, only_new, only_old, len(turned))
    low, high = paired_interval(test)
    difference = (only_new - only_old) / len(turned)
    worse = test.p_value < alpha and only_new > only_old
    passed = high < margin and not worse
    if worse:
        said = "significantly more"
    else:
        said = "not more" if passed else "that it is not more"
        said += f" by {_size(margin)} or more" + ("" if passed else " is not shown")
    reason = (
        f"Another background turns {both + only_new} of {len(turned)} predictions of the new version, and "
        f"{both + only_old} of the present default ({_points(difference)}, 95 % {_points(low)} to {_points(high)}, "
        f"p {test.p_value:.2g}): {said}."
    )
    figures = {
        "new": (both + only_new) / len(turned),
        "present": (both + only_old) / len(turned),
        **_paired(test, low, high),
        "p_value": test.p_value,
    }
    return Check("reliance", passed, reason, figures)


def turned(row: ImageRow) -> bool | None:
    """Whether another background turns a prediction, and its control does not; None if that was not tried.

    It is tried of images of which the model says what they are: a wrong prediction has nothing to rest on.
    """
    if row.flips is None or not row.agrees:
        return None
    return row.flips.background and not row.flips.background_control


def relative_check(
    new: DatasetEvidence, present: DatasetEvidence, design: DatasetDesign, margins: GateMargins
) -> Check:
    """`reliance_check` of two audits of the same images."""
    pairs = []
    for mine, theirs in zip(new.rows, present.rows, strict=True):
        first, second = turned(mine), turned(theirs)
        if first is not None and second is not None and mine.claimed not in margins.scenes:
            pairs.append((first, second))
    return reliance_check(pairs, margins.reliance_margin, design.alpha, design.margins.fewest)


def behind(evidence: DatasetEvidence, scenes: Sequence[str] = ()) -> Comparison | None:
    """Replaced backgrounds against their controls, of all images but those of places; None without a pair."""
    flips = [row.flips for row in evidence.rows if row.flips and row.agrees and row.claimed not in scenes]
    return compare("background", [each.background for each in flips], [each.background_control for each in flips])


def absolute_check(new: DatasetEvidence, design: DatasetDesign, margins: GateMargins) -> Check:
    """Whether backgrounds turn less than the margin beyond their controls, for the first version of a name."""
    found = behind(new, margins.scenes)
    if found is None or found.test.pairs < design.margins.fewest:
        reason = (
            f"The new version is right on {0 if found is None else found.test.pairs} images with a known object that "
            f"could be tried; a verdict on backgrounds needs {design.margins.fewest}."
        )
        return Check("reliance", False, reason, {"pairs": 0 if found is None else found.test.pairs})
    pairs = found.test.pairs
    passed = found.high < margins.reliance_margin
    reason = (
        f"Another background turns {found.flips.count} of {pairs} predictions of the new version, its control "
        f"{found.control_flips.count} ({_points(found.excess)}, 95 % {_points(found.low)} to {_points(found.high)}): "
        f"{'less than' if passed else 'that it is less than'} {_size(margins.reliance_margin)}"
        f"{'' if passed else ' is not shown'}. Its name has no default to compare it with."
    )
    figures = {"new": found.flips.count / pairs, "control": found.control_flips.count / pairs}
    return Check("reliance", passed, reason, {**figures, **_paired(found.test, found.low, found.high)})


def control_check(new: DatasetEvidence, design: DatasetDesign, margins: GateMargins) -> Check:
    """Whether the new version copes with changes that leave the evidence where it is."""
    found = behind(new, margins.scenes)
    count, of = (0, 0) if found is None else (found.control_flips.count, found.control_flips.of)
    passed = count <= design.margins.control * of
    return Check(
        "control",
        passed,
        f"Controls, which leave the evidence where it is, turn {count} of {of} predictions of the new version, "
        f"{'at most' if passed else 'more than'} {design.margins.control:.0%}.",
        {"count": count, "of": of},
    )


def classes_check(new: DatasetEvidence, present: DatasetEvidence | None) -> Check:
    """Whether no class rests on its background that did not before, which the mean of all would hide."""
    before = set() if present is None else _resting(present)
    worse = sorted(_resting(new) - before)
    named = ", ".join(repr(each)[:80] for each in worse[:_NAMED]) + (" and more" if len(worse) > _NAMED else "")
    reason = (
        f"Of the new version these classes rest on their background: {named}."
        if worse
        else "No class of the new version rests on its background"
        + ("." if present is None else " that did not before.")
    )
    return Check("classes", not worse, reason, {"worse": worse})


def _resting(evidence: DatasetEvidence) -> set[str]:
    return {each.label for each in evidence.classes if each.verdict == "rests_on_background" and not each.scene}


def _paired(test: PairedTest, low: float, high: float) -> dict[str, Any]:
    return {
        "difference": (test.only_change - test.only_control) / test.pairs,
        "low": low,
        "high": high,
        "pairs": test.pairs,
        "only_new": test.only_change,
        "only_other": test.only_control,
    }


def _points(share: float) -> str:
    return f"{100 * share + 0.0:+.1f} points"


def _size(margin: float) -> str:
    return f"{100 * margin:g} points"
