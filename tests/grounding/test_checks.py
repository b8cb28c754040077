"""The statistics of the gate: against scipy, and by counting every outcome."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.proportion import proportion_confint

from ouzel.errors import InvalidArgument
from ouzel.grounding.checks import AccuracyPairs, accuracy_check, reliance_check
from ouzel.grounding.margins import GateMargins, fewest, smallest


def pairs(fixed: int, broken: int, images: int) -> AccuracyPairs:
    return AccuracyPairs(fixed, broken, (images - fixed - broken) // 2, images)


@pytest.mark.parametrize(("fixed", "broken", "images"), [(0, 0, 40), (3, 1, 100), (0, 5, 60), (12, 2, 30), (7, 7, 500)])
def test_the_interval_combines_exact_bounds(fixed: int, broken: int, images: int) -> None:
    """Clopper-Pearson of scipy and of statsmodels, each with half of what may be missed."""
    check = accuracy_check(pairs(fixed, broken, images), 0.1)
    up, down = (stats.binomtest(each, images).proportion_ci(0.975, "exact") for each in (fixed, broken))
    assert (check.figures["low"], check.figures["high"]) == pytest.approx((up.low - down.high, up.high - down.low))
    theirs = [proportion_confint(each, images, alpha=0.025, method="beta") for each in (fixed, broken)]
    bounds = [[0.0 if math.isnan(low) else low, high] for low, high in theirs]
    assert check.figures["low"] == pytest.approx(bounds[0][0] - bounds[1][1])
    assert check.figures["difference"] == pytest.approx((fixed - broken) / images)
    assert check.passed == (check.figures["low"] > -0.1)


@pytest.mark.parametrize("worse_by", [0.1, 0.2])
def test_one_that_is_less_right_by_the_margin_passes_seldom(worse_by: float) -> None:
    """Every outcome of 30 images is counted: the chance to pass stays below 2.5 %, however often the two differ."""
    images, margin = 30, worse_by
    for fixes in np.linspace(0, (1 - worse_by) / 2, 7):
        breaks = fixes + worse_by
        chance = 0.0
        for fixed, broken in product(range(images + 1), repeat=2):
            if fixed + broken > images:
                continue
            if accuracy_check(AccuracyPairs(fixed, broken, 0, images), margin).passed:
                rest = 1 - fixes - breaks
                counts = [fixed, broken, images - fixed - broken]
                chance += stats.multinomial.pmf(counts, images, [fixes, breaks, max(rest, 0.0)])
        assert chance <= 0.025


def test_equal_versions_pass_with_enough_images_and_no_fewer() -> None:
    for margin in (0.02, 0.05, 0.1, 0.2, 0.5):
        enough = fewest(margin)
        assert accuracy_check(pairs(0, 0, enough), margin).passed
        assert not accuracy_check(pairs(0, 0, enough - 1), margin).passed
        assert smallest(enough) < margin <= smallest(enough - 1)
    assert (fewest(1.0), smallest(0)) == (1, 1.0)


def test_what_is_said_of_the_accuracy() -> None:
    check = accuracy_check(AccuracyPairs(1, 0, 97, 100), 0.1)
    assert check.passed
    assert "right on 98 of 100 held-out images, the present default on 97" in check.reason
    assert "not less by 10 points or more" in check.reason
    failed = accuracy_check(AccuracyPairs(0, 9, 90, 100), 0.02)
    assert not failed.passed
    assert "that it is not less by 2 points or more is not shown" in failed.reason


def turned(only_new: int, only_old: int, both: int, neither: int) -> list[tuple[bool, bool]]:
    rows = [(True, False)] * only_new + [(False, True)] * only_old
    return rows + [(True, True)] * both + [(False, False)] * neither


@pytest.mark.parametrize(
    ("rows", "passed"),
    [
        (turned(0, 0, 0, 20), True),
        (turned(0, 0, 0, 19), False),  # too few to show it
        (turned(0, 0, 30, 0), True),  # both rest on backgrounds: not more
        (turned(0, 25, 0, 5), True),
        (turned(25, 0, 0, 5), False),
        (turned(1, 0, 0, 60), True),
        (turned(12, 0, 0, 188), False),  # within the margin, but more, and not by chance
        (turned(6, 5, 0, 189), True),
        (turned(0, 0, 0, 0), False),
        (turned(0, 0, 0, 5), False),
    ],
)
def test_reliance(rows: list[tuple[bool, bool]], passed: bool) -> None:
    check = reliance_check(rows, 0.2, 0.05, 6)
    assert check.passed == passed, check.reason
    if len(rows) >= 6:
        only = [sum(rows[n] == each for n in range(len(rows))) for each in ((True, False), (False, True))]
        reference = reference_mcnemar([[0, only[0]], [only[1], 0]], exact=True).pvalue if sum(only) else 1.0
        assert check.figures["p_value"] == pytest.approx(reference)
        assert (check.figures["only_new"], check.figures["only_other"]) == tuple(only)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"accuracy_margin": 0.0}, "accuracy_margin"),
        ({"accuracy_margin": 0.51}, "accuracy_margin"),
        ({"accuracy_margin": math.nan}, "accuracy_margin"),
        ({"reliance_margin": 0.0}, "reliance_margin"),
        ({"reliance_margin": 1.5}, "reliance_margin"),
        ({"scenes": ("beach", "beach")}, "scenes"),
    ],
)
def test_margins_out_of_range_are_refused(given: dict, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        GateMargins(**given)
    assert caught.value.field == field
