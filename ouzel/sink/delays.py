"""How many samples a detector needs, at most, until it raises its alert: stated beforehand, and kept in tests.

The mean of the sums is at least 1/K of each of them, and each is at least the product of the factors since the change,
whatever came before. So the alert is up once the logarithm of one product has reached log(K * threshold). The bounds
below hold for independent outcomes of one true distribution.

References:
    Wald 1945, "Sequential tests of statistical hypotheses", Annals of Mathematical Statistics 16, 117-186.
    Chernoff 1952, "A measure of asymptotic efficiency for tests of a hypothesis based on the sum of observations",
    Annals of Mathematical Statistics 23, 493-507.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ouzel.sink.detector import FRACTIONS, Detector

CONFIDENCE = 0.95
_TILTS = tuple(10 ** (number / 8) for number in range(-24, 17))  # of Chernoff's bound; each of them gives a bound


@dataclass(frozen=True)
class Delay:
    """Samples from the change until the alert.

    Attributes:
        mean: At most, on average.
        within: With a chance of 95 % or more, no more than this.
    """

    mean: int
    within: int


def delay(detector: Detector, rises: float, falls: float = 0.0) -> Delay | None:
    """The bounds for a true distribution of outcomes.

    Args:
        detector: That watches.
        rises: Share of outcomes of 1, 0 to 1.
        falls: Share of outcomes of `detector.least`; the others are 0. Where `least` is 0 this says nothing.

    Returns:
        None if no bet wins: the true mean is not, or hardly, beyond the margin.
    """
    shares = (rises, falls, max(0.0, 1 - rises - falls))
    goal = math.log(len(FRACTIONS) * detector.threshold)
    bounds = list(_bounds(detector, shares, goal))
    if not bounds:
        return None
    return Delay(math.ceil(min(mean for mean, _ in bounds)), math.ceil(min(within for _, within in bounds)))


def _bounds(detector: Detector, shares: Sequence[float], goal: float) -> Iterator[tuple[float, float]]:
    factors = [detector.factors(outcome) for outcome in (1.0, detector.least, 0.0)]
    for steps in zip(*([math.log(each) for each in some] for some in factors), strict=True):
        drift = sum(share * each for share, each in zip(shares, steps, strict=True))
        if drift > 0:
            yield (goal + max(steps)) / drift, _within(shares, steps, goal)


def _within(shares: Sequence[float], steps: Sequence[float], goal: float) -> float:
    """The fewest samples whose sum of steps is below the goal with a chance of 5 % at most, by Chernoff's bound."""
    fewest = math.inf
    for tilt in _TILTS:
        shrinks = -math.log(sum(share * math.exp(-tilt * each) for share, each in zip(shares, steps, strict=True)))
        if shrinks > 0:
            fewest = min(fewest, (tilt * goal - math.log(1 - CONFIDENCE)) / shrinks)
    return fewest
