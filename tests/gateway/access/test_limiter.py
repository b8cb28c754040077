from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouzel.errors import ResourceExhausted
from ouzel.gateway.access.caller import TenantLimits
from ouzel.gateway.access.limiter import Limiter


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ask(limiter: Limiter, tenant: str, limits: TenantLimits) -> float:
    """0 if admitted, else when to try again."""
    try:
        with limiter.admitted(tenant, limits):
            return 0.0
    except ResourceExhausted as refused:
        return refused.retry_after


@given(
    rate=st.sampled_from([0.5, 1.0, 3.0, 1000.0]),
    burst=st.integers(1, 5),
    waits=st.lists(st.sampled_from([0.0, 0.001, 0.3, 1.0, 7.0]), max_size=60),
)
def test_no_interval_has_more_requests_than_rate_and_burst_allow(rate: float, burst: int, waits: list[float]) -> None:
    clock = Clock()
    limiter, limits, admitted = Limiter(clock), TenantLimits(rate, burst), []
    for wait in waits:
        clock.now += wait
        if ask(limiter, "a", limits) == 0:
            admitted.append(clock.now)
    for first in range(len(admitted)):  # all intervals, by counting
        for last in range(first, len(admitted)):
            assert last - first + 1 <= burst + rate * (admitted[last] - admitted[first]) + 1e-3


@given(rate=st.floats(0.01, 1000), burst=st.integers(1, 20))
def test_who_waits_as_long_as_was_said_is_admitted_and_not_earlier(rate: float, burst: int) -> None:
    clock = Clock()
    limiter, limits = Limiter(clock), TenantLimits(rate, burst)
    assert [ask(limiter, "a", limits) for _ in range(burst)] == [0.0] * burst
    wait = ask(limiter, "a", limits)
    assert wait == pytest.approx(1 / rate)
    clock.now += wait * 0.9
    assert ask(limiter, "a", limits) > 0  # and asking too early costs nothing
    clock.now += wait * 0.1
    assert ask(limiter, "a", limits) == 0


def test_a_flood_of_one_takes_nothing_from_another() -> None:
    limiter, limits = Limiter(Clock()), TenantLimits(1, 2)
    for _ in range(1000):
        ask(limiter, "a", limits)
    assert ask(limiter, "a", limits) > 0
    assert ask(limiter, "b", limits) == 0


def test_concurrency_is_given_back_whatever_happens() -> None:
    limiter, limits = Limiter(Clock()), TenantLimits(1000, 1000, concurrency=2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(limiter.admitted("a", limits))
        with pytest.raises(ResourceExhausted, match="2 requests under way, and may have 2"):
            limiter.admitted("a", limits).__enter__()
        assert ask(limiter, "b", limits) == 0
    with pytest.raises(ZeroDivisionError), limiter.admitted("a", limits):
        raise ZeroDivisionError
    assert limiter.running("a") == 0


def test_a_refusal_for_concurrency_takes_nothing_of_the_rate() -> None:
    limiter, limits = Limiter(Clock()), TenantLimits(1, burst=2, concurrency=1)
    with limiter.admitted("a", limits):
        for _ in range(10):
            assert ask(limiter, "a", limits) > 0
    assert ask(limiter, "a", limits) == 0


def test_new_limits_hold_from_the_next_request_on() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    for _ in range(1000):
        ask(limiter, "a", TenantLimits(0.001, 1000))
    assert ask(limiter, "a", TenantLimits(1, 2)) == pytest.approx(1)  # not 999 s for what was allowed then


def test_threads_are_counted_exactly() -> None:
    limiter, limits = Limiter(Clock()), TenantLimits(1, burst=100, concurrency=10_000)
    admitted: list[int] = []

    def many() -> None:
        admitted.append(sum(ask(limiter, "a", limits) == 0 for _ in range(200)))

    threads = [threading.Thread(target=many) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sum(admitted) == 100
    assert limiter.running("a") == 0


def test_tenants_that_are_gone_leave_nothing() -> None:
    limiter = Limiter(Clock())
    for number in range(1000):
        ask(limiter, f"t{number}", TenantLimits())
    limiter.forget({"t1"})
    assert set(limiter._used) == {"t1"}
    assert not limiter._running
