"""Which background does a class rest on, and what do its images become with another one?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ouzel.audit.dataset.design import DatasetDesign
from ouzel.audit.dataset.evidence import Cell, Link
from ouzel.audit.dataset.figures import Comparison
from ouzel.audit.dataset.rows import ImageRow, Swap
from ouzel.audit.dataset.statistics import compare, corrected, decide, rate


def links(rows: Sequence[ImageRow], design: DatasetDesign) -> tuple[Link, ...]:
    """Classes whose prediction moves to another class with the backgrounds of one class.

    An image becomes a class if more than half of its pictures with such backgrounds are taken for it. Its control are
    its pictures with backgrounds of its own class. Only images of which the model says what was claimed count.

    Args:
        rows: Of the data set.
        design: Its margins and alpha hold for links, too.

    Returns:
        The links that are beyond the margin, the strongest first.
    """
    tried: dict[tuple[str, str], list[ImageRow]] = {}
    for row in rows:
        if row.agrees and any(swap.change == "same_background" for swap in row.swaps):
            for background in dict.fromkeys(each.background for each in row.swaps if each.change == "background"):
                tried.setdefault((row.claimed, background), []).append(row)
    compared = []
    for (label, background), images in sorted(tried.items()):
        # All that they become are tested and counted for the correction, not the most frequent one alone.
        for becomes in sorted({each for row in images if (each := _becomes(row, background))} - {label}):
            moved = [_becomes(row, background) == becomes for row in images]
            control = [_becomes(row, None) == becomes for row in images]
            compared.append(((label, background, becomes), compare("background", moved, control)))
    family = corrected([each for _, each in compared])
    made = [
        Link(*names, each, _reason(*names, each))
        for (names, _), each in zip(compared, family, strict=True)
        if each is not None
        and each.test.pairs >= design.margins.fewest
        and decide(each, design.margins.flip, design.alpha) == "beyond"
    ]
    return tuple(sorted(made, key=lambda each: -each.comparison.excess))


def _becomes(row: ImageRow, background: str | None) -> str | None:
    """What most pictures of an image are taken for; background: of another class, None for the image's own class."""
    said = [
        each.predicted
        for each in row.swaps
        if (each.change == "same_background" if background is None else _is(each, background))
    ]
    label, count = Counter(said).most_common(1)[0]
    return label if 2 * count > len(said) else None


def _is(swap: Swap, background: str) -> bool:
    return swap.change == "background" and swap.background == background


def _reason(label: str, background: str, becomes: str, comparison: Comparison) -> str:
    flips, control, test = comparison.flips, comparison.control_flips, comparison.test
    return (
        f"With the background of {background!r} pictures, {flips.count} of {flips.of} {label!r} become {becomes!r}; "
        f"with that of other {label!r} pictures, {control.count} (p {test.adjusted_p:.2g})."
    )


def cells(rows: Sequence[ImageRow]) -> tuple[Cell, ...]:
    """Accuracy by class and background. Each image counts once in each cell, with the first background of the class.

    Args:
        rows: Of the data set. The class is the true label where it is known, else the claimed one.
    """
    right: dict[tuple[str, str], list[bool]] = {}
    for row in rows:
        for background, predicted in {each.background: each.predicted for each in reversed(row.swaps)}.items():
            right.setdefault((row.label, background), []).append(predicted == row.label)
    return tuple(Cell(*names, rate(sum(each), len(each))) for names, each in sorted(right.items()))


def worst(every: Sequence[Cell], fewest: int) -> Cell | None:
    """The cell with the lowest accuracy, of those with `fewest` images or more; None if there is none."""
    enough = [each for each in every if each.accuracy.of >= max(1, fewest)]
    return min(enough, key=lambda each: each.accuracy.count / each.accuracy.of, default=None)
