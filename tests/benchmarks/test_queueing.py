"""The model of submissions against what queueing theory says of closed networks (mean value analysis)."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

# By its path: other benchmarks have the names of packages of the tests, which must not find them.
_SPEC = spec_from_file_location("queueing", Path(__file__).parents[2] / "benchmarks" / "queueing.py")
assert _SPEC is not None
assert _SPEC.loader is not None
queueing = sys.modules["queueing"] = module_from_spec(_SPEC)  # where its dataclasses look for their names
_SPEC.loader.exec_module(queueing)
Costs, Place, simulate = queueing.Costs, queueing.Place, queueing.simulate

MS = 1e-3


def analysed(demands: list[float], delay: float, callers: int) -> tuple[float, float]:
    """Rate and time of an answer: exact for exponential times, one server to a queue (Reiser and Lavenberg 1980)."""
    lengths, rate, times = [0.0] * len(demands), 0.0, [0.0] * len(demands)
    for number in range(1, callers + 1):
        times = [demand * (1 + length) for demand, length in zip(demands, lengths, strict=True)]
        rate = number / (delay + sum(times))
        lengths = [rate * each for each in times]
    return rate, delay + sum(times)


@pytest.mark.parametrize(("worker", "database"), [(4 * MS, 2 * MS), (2 * MS, 4 * MS)])
def test_as_analysed(worker: float, database: float):
    costs = Costs(caller=6 * MS, worker=worker, database=database, wait=4 * MS)  # callers elsewhere: a delay
    seen = simulate(costs, Place(callers=6, database_cores=1), seconds=40)
    rate, answer = analysed([worker, database], 10 * MS, 6)
    assert seen.rate == pytest.approx(rate, rel=0.05)
    assert sum(seen.seconds) / len(seen.seconds) == pytest.approx(answer, rel=0.05)
    assert seen.worker == pytest.approx(rate * worker, rel=0.05)
    assert seen.database == pytest.approx(rate * database, rel=0.05)


def test_what_others_hear_of_takes_their_time():
    costs = Costs(caller=0, worker=8 * MS, database=0.4 * MS)
    alone, two = (simulate(costs, Place(workers=count, callers=16)) for count in (1, 2))
    assert two.rate == pytest.approx(2 * alone.rate, rel=0.05)
    heard = simulate(Costs(caller=0, worker=8 * MS, database=0.4 * MS, notice=4 * MS), Place(workers=2, callers=16))
    assert heard.rate == pytest.approx(2 / (8 * MS + 4 * MS), rel=0.05)  # each spends 4 ms on the other's


def test_running_jobs_leave_less_of_the_database():
    costs = Costs(caller=0, worker=0.8 * MS, database=8 * MS, job_database=4 * MS)
    place = Place(workers=4, database_cores=2, jobs=125)
    assert simulate(costs, place).rate == pytest.approx((2 - 0.5) / (8 * MS), rel=0.05)


def test_one_machine_is_shared():
    costs = Costs(caller=4 * MS, worker=4 * MS, database=8 * MS)
    assert simulate(costs, Place(workers=8, cores=2)).rate == pytest.approx(2 / (16 * MS), rel=0.05)
