"""Rates, deadlines and retries, against a clock that only waiting moves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from ouzel.endpoints.description.config import Limits
from ouzel.endpoints.transport.attempts import Attempts, PassingError, TokenBucket
from ouzel.errors import Unavailable


class Clock(threading.Event):
    """Seconds, and an event whose waits pass them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        self.now += timeout or 0.0
        return self.is_set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def failing(*outcomes: Any) -> Callable[[float], Any]:
    """An attempt with these outcomes: seconds that the service asks to wait, or a text that is the answer."""
    left = list(outcomes)

    def attempt(_seconds: float) -> str:
        outcome = left.pop(0)
        if isinstance(outcome, str):
            return outcome
        raise PassingError(Unavailable("toy: not now"), outcome)

    return attempt


def test_the_bucket_never_gives_more_than_its_rate(clock) -> None:
    bucket, rate, burst, given = TokenBucket(4, 3, clock), 4, 3, []
    for number in range(200):
        clock.now += (0.0, 0.1, 2.0)[number % 3] if number % 50 < 10 else 0.0  # busy, and at times idle
        given.append(clock.now + bucket.reserve())
    assert given == sorted(given)
    for first, start in enumerate(given):
        for last in range(first, len(given)):
            assert last - first + 1 <= burst + (given[last] - start) * rate + 1e-6


def test_the_bucket_gives_its_burst_at_once_and_then_its_rate(clock) -> None:
    bucket = TokenBucket(4, 3, clock)
    assert [bucket.reserve() for _ in range(6)] == pytest.approx([0, 0, 0, 0.25, 0.5, 0.75])
    clock.now += 60
    assert [bucket.reserve() for _ in range(4)] == pytest.approx([0, 0, 0, 0.25])


def test_retries_wait_longer_and_longer(clock) -> None:
    attempts = Attempts("toy", Limits(retries=4, requests_per_second=1e4), clock)
    assert attempts.run(failing(0, 0, 0, 0, "yes"), clock) == "yes"
    first, *waits = clock.waits
    assert first == 0
    assert all(0.1 * 2**number <= wait <= 0.2 * 2**number for number, wait in enumerate(waits))
    assert len(waits) == 4


def test_a_wait_that_is_asked_for_is_kept(clock) -> None:
    attempts = Attempts("toy", Limits(retries=2, requests_per_second=1e4), clock)
    assert attempts.run(failing(7.0, "yes"), clock) == "yes"
    assert clock.waits[1] == 7.0


def test_the_last_error_is_told(clock) -> None:
    attempts = Attempts("toy", Limits(retries=1, requests_per_second=1e4), clock)
    with pytest.raises(Unavailable, match=r"toy: not now$"):
        attempts.run(failing(0, 0), clock)


def test_there_is_no_attempt_behind_the_deadline(clock) -> None:
    attempts = Attempts("toy", Limits(timeout_s=5, retries=9, requests_per_second=1e4), clock)
    with pytest.raises(Unavailable, match=r"asks to wait 6 s; no time is left for a retry \(timeout_s: 5\)"):
        attempts.run(failing(6.0, "too late"), clock)
    assert clock.now == 1000


def test_attempts_get_the_seconds_that_are_left(clock) -> None:
    attempts, seen = Attempts("toy", Limits(timeout_s=5, requests_per_second=1e4), clock), []

    def attempt(seconds: float) -> str:
        seen.append(seconds)
        clock.now += 1.5
        if len(seen) < 3:
            raise PassingError(Unavailable("toy: not now"))
        return "yes"

    assert attempts.run(attempt, clock) == "yes"
    assert seen[0] == pytest.approx(5)
    assert seen[1] == pytest.approx(3.5 - clock.waits[1])


def test_retries_count_against_the_rate(clock) -> None:
    attempts = Attempts("toy", Limits(retries=3, requests_per_second=0.5, concurrency=1), clock)
    assert attempts.run(failing(0, 0, "yes"), clock) == "yes"
    assert clock.waits[1:] == [pytest.approx(2), pytest.approx(2)]


def test_a_stopped_request_is_given_up(clock) -> None:
    attempts = Attempts("toy", Limits(), clock)
    clock.set()
    with pytest.raises(Unavailable, match="another request failed"):
        attempts.run(failing("never"), clock)
