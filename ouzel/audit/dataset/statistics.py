"""Statistics of a data-set audit: intervals of shares, tests on pairs, correction for many tests, and a decision.

References:
    Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22, 209-212.
    McNemar 1947, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12.
    Clopper, Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26, 404-413.
    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 65-70.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np

from ouzel.audit.dataset.figures import Comparison, PairedTest, Rate

CONFIDENCE = 0.95
_REMEMBERED = 4096  # results: classes of a data set have as many images, and many counts are 0
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)

# "beyond": more than its control by the margin, and not by chance. "within": less than the margin. "open": not shown.
Decision = Literal["beyond", "within", "open"]


def rate(count: int, of: int) -> Rate:
    """A share with its Wilson interval, 95 %.

    Args:
        count: 0 to `of`.
        of: 0 or more; of none nothing is known, so the interval is 0 to 1.
    """
    if of == 0:
        return Rate(0, 0, 0.0, 1.0)
    share, weight = count / of, _Z**2 / of
    middle = (share + weight / 2) / (1 + weight)
    half = _Z * (share * (1 - share) / of + weight / (4 * of)) ** 0.5 / (1 + weight)
    # Of none and of all the formula gives 0 and 1 but for rounding.
    return Rate(count, of, 0.0 if count == 0 else middle - half, 1.0 if count == of else middle + half)


def compare(change: str, changed: Sequence[bool], control: Sequence[bool]) -> Comparison | None:
    """A change against its control, on the same images.

    Args:
        change: Name of the change.
        changed: Whether the change affects each image.
        control: Whether the control affects it; as many.

    Returns:
        The comparison, with no correction for other tests yet; None without images.
    """
    if not changed:
        return None
    first, second = np.asarray(changed, dtype=bool), np.asarray(control, dtype=bool)
    test = mcnemar(int((first & second).sum()), int((first & ~second).sum()), int((~first & second).sum()), len(first))
    flips, control_flips = rate(int(first.sum()), len(first)), rate(int(second.sum()), len(first))
    low, high = paired_interval(test)
    excess = (test.only_change - test.only_control) / test.pairs
    return Comparison(change, flips, control_flips, excess, low, high, test)


def mcnemar(both: int, only_change: int, only_control: int, pairs: int) -> PairedTest:
    """The exact two-sided McNemar test: of the pairs that differ, half differ either way if the change does nothing.

    Args:
        both: Pairs in which both affect the image.
        only_change: Pairs in which the change alone does.
        only_control: Pairs in which the control alone does.
        pairs: All.
    """
    differ = only_change + only_control
    p = _chance(only_change, differ)
    return PairedTest(pairs, only_change, only_control, both, pairs - both - differ, p, p)


@lru_cache(_REMEMBERED)
def _chance(count: int, differ: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(count, differ, 0.5).pvalue) if differ else 1.0


def paired_interval(test: PairedTest) -> tuple[float, float]:
    """An interval, 95 % or more, of the share of the change minus that of the control.

    It comes from exact bounds of the pairs that only the change, and that only the control affects. Intervals that hold
    95 % in the limit miss a true excess too often where there are few pairs, and would acquit.

    Args:
        test: With one pair or more.
    """
    up, down = _bounds(test.only_change, test.pairs), _bounds(test.only_control, test.pairs)
    return up[0] - down[1], up[1] - down[0]


@lru_cache(_REMEMBERED)
def _bounds(count: int, of: int) -> tuple[float, float]:
    """Of Clopper and Pearson. Four bounds make an interval, and each may miss in a quarter of the cases that it may."""
    from scipy.stats import beta

    miss = (1 - CONFIDENCE) / 4
    low = float(beta.ppf(miss, count, of - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - miss, count + 1, of - count)) if count < of else 1.0
    return low, high


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction.

    Args:
        p_values: Of the tests of one family.

    Returns:
        The adjusted ones, in the given order: with all below alpha rejected, a false rejection of any has a chance of
        at most alpha.
    """
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = least
    return adjusted


def corrected(family: Sequence[Comparison | None]) -> list[Comparison | None]:
    """Comparisons of one family, with Holm's correction; where there is none, there is no test to correct for."""
    adjusted = iter(holm([each.test.p_value for each in family if each is not None]))
    return [
        None if each is None else replace(each, test=replace(each.test, adjusted_p=next(adjusted))) for each in family
    ]


def decide(comparison: Comparison, margin: float, alpha: float) -> Decision:
    """Whether a change does more than its control.

    "beyond" needs an excess of the margin and a corrected test below alpha. "within" is a test of non-inferiority: the
    whole interval lies below the margin; for a margin of 0.2 that takes 20 pairs at least. Few pairs show neither.

    Args:
        comparison: Of change and control.
        margin: Of the excess, above 0 to 1.
        alpha: Of the corrected test.
    """
    if comparison.excess >= margin and comparison.test.adjusted_p < alpha:
        return "beyond"
    return "within" if comparison.high < margin else "open"
