"""The statistics of data-set audits, against scipy and statsmodels, and by counting every outcome."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from ouzel.audit.dataset.statistics import compare, corrected, decide, holm, mcnemar, paired_interval, rate


def _pairs(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    changed = [True] * (both + first) + [False] * (second + neither)
    control = [True] * both + [False] * first + [True] * second + [False] * neither
    return changed, control


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 1), (0, 40), (40, 40), (3, 40), (37, 40), (5000, 10_000)])
def test_the_interval_of_a_share_is_that_of_statsmodels_and_scipy(count: int, of: int) -> None:
    result = rate(count, of)
    assert (result.low, result.high) == pytest.approx(proportion_confint(count, of, method="wilson"), abs=1e-12)
    scipys = stats.binomtest(count, of).proportion_ci(method="wilson")
    assert (result.low, result.high) == pytest.approx((scipys.low, scipys.high), abs=1e-12)
    assert result.share == count / of


def test_of_no_image_nothing_is_known() -> None:
    result = rate(0, 0)
    assert (result.share, result.low, result.high) == (None, 0.0, 1.0)
    assert compare("background", [], []) is None


@pytest.mark.parametrize(
    "table", [(3, 12, 2, 20), (0, 0, 0, 9), (5, 0, 0, 5), (0, 6, 0, 0), (0, 1, 9, 2), (2, 7, 7, 1)]
)
def test_the_paired_test_is_that_of_statsmodels(table: tuple[int, int, int, int]) -> None:
    both, first, second, neither = table
    result = mcnemar(both, first, second, sum(table))
    reference = reference_mcnemar([[both, first], [second, neither]], exact=True)
    assert result.p_value == pytest.approx(reference.pvalue)
    assert (result.both, result.only_change, result.only_control, result.neither) == table
    compared = compare("background", *_pairs(*table))
    assert compared is not None
    assert compared.test == result
    assert (compared.flips.count, compared.control_flips.count) == (both + first, both + second)
    assert compared.excess == pytest.approx((first - second) / sum(table))


def test_the_correction_for_many_tests_is_that_of_statsmodels() -> None:
    random = np.random.default_rng(0)
    for count in (1, 2, 7, 50):
        p_values = (random.random(count) ** 4).tolist()
        assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == []


def test_a_family_is_corrected_for_the_tests_that_were_made() -> None:
    some = [compare("background", *_pairs(0, first, 0, 9)) for first in (9, 3, 7)]
    family = corrected([some[0], None, *some[1:]])
    assert family[1] is None
    adjusted = [each.test.adjusted_p for each in family if each is not None]
    raw = [each.test.p_value for each in family if each is not None]
    assert adjusted == pytest.approx(multipletests(raw, method="holm")[1])


def _outcomes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """(T, 3): every possible result of n pairs, change alone, control alone, the rest. (T, 2): the interval of each."""
    tables = np.array([(a, b, n - a - b) for a in range(n + 1) for b in range(n + 1 - a)])
    return tables, np.array([paired_interval(mcnemar(0, a, b, n)) for a, b, _ in tables.tolist()])


def _chances(tables: np.ndarray, first: float, second: float) -> np.ndarray:
    """Of each outcome, where the change alone affects a share `first` of images and the control alone `second`."""
    return stats.multinomial.pmf(tables, tables[0].sum(), (first, second, max(0.0, 1 - first - second)))


@pytest.mark.parametrize("n", [6, 20, 40])
def test_the_interval_of_an_excess_holds_the_truth_as_often_as_it_says(n: int) -> None:
    """By the exact chances of all outcomes."""
    tables, bounds = _outcomes(n)
    for first in (0.0, 0.05, 0.1, 0.2, 0.4, 0.6):
        for second in (0.0, 0.05, 0.1, 0.2, 0.4):
            holds = (bounds[:, 0] <= first - second + 1e-12) & (first - second <= bounds[:, 1] + 1e-12)
            assert _chances(tables, first, second)[holds].sum() >= 0.95


def test_the_interval_of_an_excess_is_made_of_exact_bounds() -> None:
    low, high = paired_interval(mcnemar(4, 12, 3, 40))
    up, down = (proportion_confint(count, 40, alpha=0.025, method="beta") for count in (12, 3))
    assert (low, high) == pytest.approx((up[0] - down[1], up[1] - down[0]))


@pytest.mark.parametrize("n", [20, 40])
def test_a_change_that_reaches_the_margin_is_seldom_taken_for_less(n: int) -> None:
    """By the exact chances of all outcomes: "within" is a wrong answer if the true excess is the margin or more."""
    tables, bounds = _outcomes(n)
    within = bounds[:, 1] < 0.2
    assert within.any()
    for excess in (0.2, 0.3):
        for second in (0.0, 0.05, 0.1, 0.2, 0.35):
            assert _chances(tables, second + excess, second)[within].sum() <= 0.025


def test_a_decision_needs_the_margin_and_the_test() -> None:
    def decided(*table: int) -> str:
        compared = compare("background", *_pairs(*table))
        assert compared is not None
        return decide(compared, 0.2, 0.05)

    assert decided(0, 30, 0, 10) == "beyond"
    assert decided(0, 6, 0, 94) == "within"  # significant, but less than the margin
    assert decided(0, 5, 0, 0) == "open"  # all pairs differ, and they are too few
    assert decided(0, 0, 0, 3) == "open"  # no pair differs, and they are too few
    assert decided(0, 0, 30, 10) == "within"  # the control does more than the change
