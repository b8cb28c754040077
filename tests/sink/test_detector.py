"""The detector against a plain implementation, its run length, and the delays that are stated beforehand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ouzel.sink.delays import Delay, delay
from ouzel.sink.detector import CLEARING, FRACTIONS, Detector, State, step

BACKGROUND = Detector("background", 0.2, -1.0, 400.0)
DISAGREEMENT = Detector("disagreement", 0.5, 0.0, 400.0)


def raised_at(detector: Detector, outcomes: Sequence[float], state: State | None = None) -> int | None:
    """Samples until the first alert; None if there is none."""
    state = state or State()
    for number, outcome in enumerate(outcomes, 1):
        state, change = step(detector, state, outcome)
        if change:
            return number
    return None


def plainly(margin: float, least: float, threshold: float, outcomes: Sequence[float]) -> int | None:
    """Written from the definition: for each bet the sum, over all starts, of the products of factors since then."""
    past: list[float] = []
    for number, outcome in enumerate(outcomes, 1):
        past.append(outcome)
        total = 0.0
        for fraction in FRACTIONS:
            bet = fraction / (margin - least)
            product = 1.0
            for each in reversed(past):
                product *= 1 + bet * (each - margin)
                total += product / len(FRACTIONS)
        if total >= threshold:
            return number
    return None


def outcomes(rng: np.random.Generator, rises: float, falls: float, count: int) -> list[float]:
    drawn = rng.random(count)
    return [1.0 if each < rises else -1.0 if each < rises + falls else 0.0 for each in drawn]


@pytest.mark.parametrize("detector", [BACKGROUND, DISAGREEMENT], ids=lambda each: each.name)
@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_the_definition_says(detector: Detector, seed: int) -> None:
    rng = np.random.default_rng(seed)
    falls = 0.1 if detector.least < 0 else 0.0
    stream = outcomes(rng, 0.1, falls, 60) + outcomes(rng, 0.85, falls, 60)
    ours = raised_at(detector, stream)
    assert ours is not None
    assert ours == plainly(detector.margin, detector.least, detector.threshold, stream)


@pytest.mark.parametrize(
    ("detector", "rises", "falls"),
    [(BACKGROUND, 0.2, 0.0), (BACKGROUND, 0.5, 0.3), (DISAGREEMENT, 0.5, 0.0)],
    ids=["background", "noisy background", "disagreement"],
)
def test_false_alerts_are_as_rare_as_stated_at_the_margin_itself(
    detector: Detector, rises: float, falls: float
) -> None:
    """The worst case that is allowed. Streams that are cut off count as if they ended there, which lowers the mean.

    Many streams at once, in numpy: another implementation.
    """
    rng = np.random.default_rng(7)
    streams, longest = 600, 4 * int(detector.threshold)
    bets = np.array([fraction / (detector.margin - detector.least) for fraction in FRACTIONS])
    sums, ended = np.zeros((streams, len(bets))), np.full(streams, longest)
    for number in range(1, longest + 1):
        drawn = rng.random(streams)
        outcome = np.where(drawn < rises, 1.0, np.where(drawn < rises + falls, -1.0, 0.0))
        sums = (sums + 1) * (1 + bets * (outcome - detector.margin)[:, None])
        over = (sums.mean(1) >= detector.threshold) & (ended == longest)
        ended[over] = number
    error = ended.std() / math.sqrt(streams)
    assert ended.mean() - 3 * error >= detector.threshold, (ended.mean(), error)
    assert (ended < longest).any()  # or nothing would have been tried


def test_an_opponent_who_sees_the_evidence_gains_nothing() -> None:
    """The mean stays at the margin; how noisy the next outcome is depends on the past."""
    rng = np.random.default_rng(11)
    streams, longest, threshold = 3000, 2400, BACKGROUND.threshold
    bets = np.array([fraction / (BACKGROUND.margin + 1) for fraction in FRACTIONS])
    sums, ended = np.zeros((streams, len(bets))), np.full(streams, longest)
    for number in range(1, longest + 1):
        noisy = sums.mean(1) > threshold / 40
        rises = np.where(noisy, 0.6, 0.2)
        drawn = rng.random(streams)
        outcome = np.where(drawn < rises, 1.0, np.where(noisy, -1.0, 0.0))
        ended[(sums.mean(1) >= threshold) & (ended == longest)] = number - 1
        sums = (sums + 1) * (1 + bets * (outcome - BACKGROUND.margin)[:, None])
    assert ended.mean() - 3 * ended.std() / math.sqrt(streams) >= threshold
    assert (ended < longest).any()


@pytest.mark.parametrize(
    ("detector", "rises", "falls"),
    [(BACKGROUND, 0.6, 0.05), (BACKGROUND, 0.9, 0.05), (DISAGREEMENT, 0.8, 0.0), (DISAGREEMENT, 1.0, 0.0)],
)
def test_alerts_come_within_the_stated_samples(detector: Detector, rises: float, falls: float) -> None:
    stated = delay(detector, rises, falls)
    assert stated is not None
    took = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        state = State()
        for outcome in outcomes(rng, 0.02, 0.02 if falls else 0.0, 200):  # what came before gives no head start
            state, change = step(detector, state, outcome)
            assert not change
        number = raised_at(detector, outcomes(rng, rises, falls, 10 * stated.within), state)
        assert number is not None
        took.append(number)
    assert np.mean(took) <= stated.mean
    assert np.mean([each <= stated.within for each in took]) >= 0.95
    assert stated.within <= 6 * np.mean(took)  # the statement says something


def test_no_delay_is_stated_within_the_margin() -> None:
    assert delay(BACKGROUND, 0.2) is None
    assert delay(BACKGROUND, 0.25, 0.1) is None
    assert delay(DISAGREEMENT, 0.5) is None


def test_delays_fall_with_the_change_and_grow_with_the_run_length() -> None:
    found = [delay(Detector("background", 0.2, -1.0, length), rises) for length in (100, 1e6) for rises in (0.5, 0.9)]
    few = [each.mean for each in found if isinstance(each, Delay)]
    assert len(few) == 4
    assert few[0] > few[1]
    assert few[2] > few[3]
    assert few[2] > few[0]


def test_an_excursion_raises_one_alert_and_is_cleared_by_evidence() -> None:
    rng = np.random.default_rng(3)
    state, changes = State(), []
    parts = [(0.03, 300), (0.8, 300), (0.03, 300), (0.8, 100)]
    for number, outcome in enumerate([x for share, n in parts for x in outcomes(rng, share, 0.02, n)]):
        state, change = step(BACKGROUND, state, outcome)
        if change:
            changes.append((change, number // 300))
    assert changes == [("raised", 1), ("cleared", 2), ("raised", 3)]


def test_what_hovers_at_the_margin_does_not_flutter() -> None:
    rng = np.random.default_rng(5)
    state, changes = State(), 0
    for outcome in outcomes(rng, 0.6, 0.0, 100) + outcomes(rng, 0.2, 0.0, 150):
        state, change = step(BACKGROUND, state, outcome)
        changes += bool(change)
    assert changes == 1
    assert state.up
    assert math.exp(state.evidence) < CLEARING


def test_states_survive_json_and_years_of_evidence() -> None:
    detector, state = Detector("background", 0.2, -1.0, 1e9), State()
    assert State.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    for _ in range(5000):
        state, _change = step(Detector("background", 0.2, -1.0, math.inf), state, 1.0)
    assert math.isfinite(state.evidence)
    assert State.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    assert step(detector, state, 0.0)[1] == "raised"


def test_the_documentation_states_what_is_computed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "audit-sink.md").read_text()
    rows = re.findall(r"^\| (0\.\d) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert len(rows) == 4
    background, disagreement = Detector("background", 0.2, -1.0, 2e4), Detector("disagreement", 0.5, 0.0, 2e4)
    for beyond, *stated in rows:
        bounds = (delay(background, 0.25 + float(beyond), 0.05), delay(disagreement, 0.5 + float(beyond)))
        assert [n for each in bounds if each for n in (each.mean, each.within)] == list(map(int, stated))
