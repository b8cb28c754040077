"""What a data set's audit says of all images and of each class, as values for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ouzel.audit.dataset.evidence import Cell, DatasetEvidence, Group, Link
from ouzel.audit.dataset.figures import Comparison, Rate
from ouzel.audit.report import words
from ouzel.pages import percent
from ouzel.pages.texts import visible

_LABEL, _REASON = 48, 600  # characters
_MATRIX = 12  # classes: a larger table of class and background nobody reads
_LOWEST = 12  # cells that are listed instead


def group(one: Group) -> dict[str, Any]:
    """A row of the table of classes."""
    return {
        "label": visible(one.label, _LABEL),
        "verdict": words.SHORT[one.verdict],
        "look": "open" if one.verdict == "rests_on_background" and one.scene else words.GROUPS[one.verdict].look,
        "concern": one.concern,
        "scene": one.scene,
        "images": one.images,
        "refused": one.refused,
        "without_region": one.without_region,
        "agreement": rate(one.agreement),
        "accuracy": rate(one.accuracy),
        "background": comparison(one.background),
        "object": comparison(one.object),
        "gap": None if one.background_gap is None else f"{100 * one.background_gap:+.0f}\u00a0points",
        "same": rate(one.mixed_same),
        "rand": rate(one.mixed_rand),
        "reason": visible(one.reason, _REASON),
        "verdicts": [(words.SHORT[name], count) for name, count in one.verdicts.items() if count],
    }


def ordered(groups: Sequence[Group]) -> list[Group]:
    """Classes that somebody should look at first, then by what the background does."""
    return sorted(
        groups, key=lambda each: (not each.concern, -(each.background.excess if each.background else -1.0), each.label)
    )


def rate(one: Rate) -> dict[str, Any]:
    """A share with its counts and its interval."""
    interval = "" if one.share is None else f"{percent(one.low, 0)} to {percent(one.high, 0)}"
    return {"share": percent(one.share, 0), "value": one.share, "count": one.count, "of": one.of, "interval": interval}


def comparison(one: Comparison | None) -> dict[str, Any] | None:
    """A change against its control. Places of the interval are shares of the way from -100 % to +100 %."""
    if one is None:
        return None
    return {
        "flips": rate(one.flips),
        "control": rate(one.control_flips),
        "excess": _points(one.excess),
        "interval": f"{_points(one.low)} to {_points(one.high)}",
        "low": (one.low + 1) / 2,
        "high": (one.high + 1) / 2,
        "at": (one.excess + 1) / 2,
        "only_change": one.test.only_change,
        "only_control": one.test.only_control,
        "pairs": one.test.pairs,
        "p": _p(one.test.p_value),
        "adjusted": _p(one.test.adjusted_p),
    }


def _points(share: float) -> str:
    return f"{round(100 * share) + 0:+d}\u00a0%"


def _p(value: float) -> str:
    return "<\u00a00.0001" if value < 0.0001 else f"{value:.2g}"


def link(one: Link) -> dict[str, Any]:
    """A class that moves to another one with a background."""
    return {
        "label": visible(one.label, _LABEL),
        "background": visible(one.background, _LABEL),
        "becomes": visible(one.becomes, _LABEL),
        "reason": visible(one.reason, _REASON),
        "comparison": comparison(one.comparison),
    }


def cell(one: Cell) -> dict[str, Any]:
    """A class with a background."""
    return {
        "label": visible(one.label, _LABEL),
        "background": visible(one.background, _LABEL),
        "rate": rate(one.accuracy),
        "same": one.label == one.background,
    }


def matrix(evidence: DatasetEvidence) -> tuple[list[str], list[tuple[str, list[dict[str, Any] | None]]]]:
    """Accuracy by class (rows) and background (columns); nothing for many classes."""
    labels = sorted({each.label for each in evidence.cells})
    backgrounds = sorted({each.background for each in evidence.cells})
    if max(len(labels), len(backgrounds)) > _MATRIX:
        return [], []
    known = {(each.label, each.background): cell(each) for each in evidence.cells}
    table = [(visible(label, _LABEL), [known.get((label, each)) for each in backgrounds]) for label in labels]
    return [visible(each, _LABEL) for each in backgrounds], table


def lowest(evidence: DatasetEvidence) -> list[dict[str, Any]]:
    """The cells with the lowest accuracy."""
    known = [each for each in evidence.cells if each.accuracy.of]
    return [cell(each) for each in sorted(known, key=lambda each: each.accuracy.count / each.accuracy.of)[:_LOWEST]]


def lead(evidence: DatasetEvidence) -> str:
    """What there is to look at, in a few sentences."""
    count = len(evidence.classes)
    bad = [visible(each.label, _LABEL) for each in evidence.classes if each.concern]
    open_ = sum(each.verdict == "inconclusive" for each in evidence.classes)
    named = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    if bad:
        said = [f"Somebody should look at {len(bad)} of {count} classes: {named}."]
    elif open_ == count:
        said = ["No class has a clear result."]
    else:
        said = [f"None of the {count} classes gives cause for concern as a whole."]
    if 0 < open_ < count:
        said.append(f"{open_} of {count} are inconclusive.")
    if evidence.links:
        said.append(f"Links between a class and a background: {len(evidence.links)}.")
    if confirmed := confirmed_of(evidence):
        said.append(f"Clusters whose region carries the prediction: {confirmed}.")
    if images := sum(each.concern for each in evidence.rows):
        said.append(f"Single images to look at: {images} of {len(evidence.rows)}.")
    return " ".join(said)


def confirmed_of(evidence: DatasetEvidence) -> int:
    """How many clusters are confirmed."""
    return sum(each.verdict == "confirmed" for each in evidence.clusters)
