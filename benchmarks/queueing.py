"""A model of submissions: callers, workers with one interpreter each, and a database, as queues (simpy).

Every caller waits for its answer before it asks again. A submission takes time of the caller's processor, of a worker's
interpreter and processor, of the database's processors, of the interpreter again, and waits for the disk and the
network, where nothing queues. Times are drawn from exponential distributions around their means. What a submission has
the other workers do (they hear of it) is added to their next one. Jobs that run take time of the database and of the
workers, at random moments.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import simpy

Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Costs:
    """Mean seconds of a submission, and of a second of a running job.

    Attributes:
        caller: Of a processor.
        worker: Of the interpreter of the worker that is asked.
        notice: Of the interpreter of each other worker.
        database: Of a processor.
        wait: For the disk and the network.
        job_worker: Of the interpreter of a job's worker, in each second that the job runs.
        job_database: Of a processor of the database, likewise.
    """

    caller: float
    worker: float
    database: float
    notice: float = 0.0
    wait: float = 0.0
    job_worker: float = 0.0
    job_database: float = 0.0


@dataclass(frozen=True)
class Place:
    """Where they run.

    Attributes:
        workers: How many accept calls.
        callers: Of each of them.
        cores: That all share, callers too; None: each worker has a core, callers are elsewhere.
        database_cores: Of the database, if `cores` is None.
        jobs: That run beside, over all workers.
    """

    workers: int = 1
    callers: int = 16
    cores: int | None = None
    database_cores: int = 8
    jobs: int = 0


@dataclass(frozen=True)
class Outcome:
    """Submissions per second, seconds of each in ascending order, and the busy share of interpreters and database."""

    rate: float
    seconds: Sequence[float]
    worker: float
    database: float


class _Model:
    def __init__(self, costs: Costs, place: Place, seed: int) -> None:
        self.time = simpy.Environment()
        self._costs, self._place, self._chance = costs, place, random.Random(seed)
        self._interpreters = [simpy.Resource(self.time) for _ in range(place.workers)]
        shared = simpy.Resource(self.time, place.cores) if place.cores else None
        self._cores: list[simpy.Resource | None] = [shared] * place.workers
        self._elsewhere = shared
        self._database = shared or simpy.Resource(self.time, place.database_cores)
        self._heard = [0.0] * place.workers  # seconds of notices that a worker has yet to spend
        self.busy = {"worker": 0.0, "database": 0.0}
        self.spent: list[tuple[float, float]] = []  # begun, ended
        for worker in range(place.workers):
            for _ in range(place.callers):
                self.time.process(self._caller(worker))
        if place.jobs:
            self.time.process(self._jobs())

    def _drawn(self, mean: float) -> float:
        return self._chance.expovariate(1 / mean) if mean else 0.0

    def _compute(self, seconds: float, core: simpy.Resource | None, what: str) -> Steps:
        if core is None:
            yield self.time.timeout(seconds)
        else:
            with core.request() as turn:
                yield turn
                yield self.time.timeout(seconds)
        if what in self.busy:
            self.busy[what] += seconds

    def _interpret(self, worker: int, seconds: float) -> Steps:
        with self._interpreters[worker].request() as turn:
            yield turn
            seconds += self._heard[worker]
            self._heard[worker] = 0.0
            yield from self._compute(seconds, self._cores[worker], "worker")

    def _caller(self, worker: int) -> Steps:
        costs = self._costs
        while True:
            begun = self.time.now
            yield from self._compute(self._drawn(costs.caller), self._elsewhere, "caller")
            yield from self._interpret(worker, self._drawn(costs.worker / 2))
            yield from self._compute(self._drawn(costs.database), self._database, "database")
            yield self.time.timeout(self._drawn(costs.wait))
            yield from self._interpret(worker, self._drawn(costs.worker / 2))
            self.spent.append((begun, self.time.now))
            for other in range(len(self._heard)):
                self._heard[other] += costs.notice if other != worker else 0.0

    def _jobs(self) -> Steps:
        while True:
            yield self.time.timeout(self._drawn(1 / self._place.jobs))
            self._heard[self._chance.randrange(self._place.workers)] += self._costs.job_worker
            self.time.process(self._compute(self._drawn(self._costs.job_database), self._database, "database"))


def simulate(costs: Costs, place: Place, seconds: float = 20.0, seed: int = 0) -> Outcome:
    """Runs the model, the first quarter of the time unseen, until the queues are what they stay.

    Args:
        costs: Measured.
        place: Not measured.
        seconds: Of the model's time.
        seed: Of the draws.
    """
    model = _Model(costs, place, seed)
    model.time.run(until=seconds / 4)
    model.spent.clear()
    before = dict(model.busy)
    model.time.run(until=seconds)
    seen = seconds * 3 / 4
    cores = place.cores or place.database_cores
    return Outcome(
        len(model.spent) / seen,
        sorted(ended - begun for begun, ended in model.spent),
        (model.busy["worker"] - before["worker"]) / seen / place.workers,
        (model.busy["database"] - before["database"]) / seen / cores,
    )
