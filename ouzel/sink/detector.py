"""Raises an alert when a stream of outcomes goes beyond a margin, however often one looks.

An e-detector: for each of a few bets, a Shiryaev-Roberts sum of e-processes. As long as the mean of each outcome, given
the past, is within the margin, a factor 1 + bet * (outcome - margin) has a mean of at most 1; then the sum grows by 1
per sample on average at most, and the mean number of samples until it reaches a threshold is at least this threshold.
No other assumption is made: outcomes may depend on each other, and rates may move within the margin.

The mean of several such sums is again one, so nobody has to know beforehand how large the change will be.

After an alert the same is done with the signs turned: the alert is cleared once there is evidence of the reverse, and
not when an estimate happens to dip.

References:
    Shin, Ramdas, Rinaldo 2023, "E-detectors: a nonparametric framework for sequential change detection",
    arXiv 2203.03532.
    Waudby-Smith, Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86, 1-27.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

# Of the largest bet that cannot lose everything. Small ones are for changes just beyond the margin.
FRACTIONS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
CLEARING = 1000.0  # evidence of the reverse that clears an alert: not before 1000 samples beyond the margin, on average

Change = Literal["", "raised", "cleared"]


@dataclass(frozen=True)
class Detector:
    """What is watched, and how much evidence an alert needs.

    Attributes:
        name: "background" or "disagreement".
        margin: The mean of the outcomes that is still allowed, above `least` and below 1.
        least: The smallest outcome: -1 or 0. The largest is 1.
        threshold: Mean number of samples until a false alert, at least; more than 1.
    """

    name: str
    margin: float
    least: float
    threshold: float

    @property
    def bets(self) -> tuple[float, ...]:
        """On a mean above the margin."""
        return tuple(each / (self.margin - self.least) for each in FRACTIONS)

    @property
    def clearing_bets(self) -> tuple[float, ...]:
        """On a mean below the margin."""
        return tuple(each / (1 - self.margin) for each in FRACTIONS)

    def factors(self, outcome: float) -> list[float]:
        """By which an outcome multiplies the evidence of each bet. All are above 0."""
        return [1 + bet * (outcome - self.margin) for bet in self.bets]


@dataclass(frozen=True)
class State:
    """What a detector has seen. Logarithms, because evidence of a clear change exceeds any float.

    Attributes:
        logs: Of the sums, one per bet; of the reverse while an alert is up. -inf before the first sample.
        up: Whether an alert is up.
        samples: Outcomes seen.
        total: Sum of the outcomes since the detector was started or changed its direction.
        since: Outcomes in `total`.
    """

    logs: tuple[float, ...] = (-math.inf,) * len(FRACTIONS)
    up: bool = False
    samples: int = 0
    total: float = 0.0
    since: int = 0

    @property
    def evidence(self) -> float:
        """Logarithm of the mean of the sums."""
        return _log_mean(self.logs)

    def turned(self) -> State:
        """The state after an alert was raised or cleared: evidence starts anew."""
        return State(up=not self.up, samples=self.samples)

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types; -inf is None."""
        logs = [None if math.isinf(each) else each for each in self.logs]
        return {"logs": logs, "up": self.up, "samples": self.samples, "total": self.total, "since": self.since}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `to_dict` has put down."""
        logs = tuple(-math.inf if each is None else float(each) for each in values["logs"])
        return cls(logs, values["up"], values["samples"], values["total"], values["since"])


def step(detector: Detector, state: State, outcome: float) -> tuple[State, Change]:
    """Look at one more outcome.

    Args:
        detector: What is watched.
        state: Before.
        outcome: In `least`..1.

    Returns:
        The state after it, and whether an alert was raised or cleared. The state is already turned then.
    """
    if state.up:
        factors = [1 + bet * (detector.margin - outcome) for bet in detector.clearing_bets]
        threshold = CLEARING
    else:
        factors, threshold = detector.factors(outcome), detector.threshold
    logs = tuple(_plus_one(log) + math.log(factor) for log, factor in zip(state.logs, factors, strict=True))
    after = replace(state, logs=logs, samples=state.samples + 1, total=state.total + outcome, since=state.since + 1)
    if after.evidence < math.log(threshold):
        return after, ""
    return after.turned(), "cleared" if state.up else "raised"


def _plus_one(log: float) -> float:
    """log(exp(log) + 1)."""
    return max(log, 0.0) + math.log1p(math.exp(-abs(log)))


def _log_mean(logs: Sequence[float]) -> float:
    top = max(logs)
    return top if math.isinf(top) else top + math.log(sum(math.exp(each - top) for each in logs) / len(logs))
