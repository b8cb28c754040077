"""What a job will probably cost, from what jobs like it took."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from types import MappingProxyType

from ouzel.errors import FailedPrecondition
from ouzel.worker.store.accounts import AccountStore
from ouzel.worker.store.job import slots_of
from ouzel_protos.v1 import job_pb2 as pb

LEAST = 3  # jobs; of fewer nothing is said
NOTHING: Mapping[str, float] = MappingProxyType({})
_ALIKE = 8.0  # jobs with so many times more or less work say nothing: what a start costs would count too much
_FRESH = 5.0  # s for which the database is not asked again


@dataclass(frozen=True)
class Quote:
    """Seconds of running.

    Attributes:
        low: 10 % of jobs like it took less.
        likely: Half of them did.
        high: 90 % of them did.
        gpus: That the job would have.
        jobs: How many were measured.
    """

    low: float
    likely: float
    high: float
    gpus: float
    jobs: int

    def message(self) -> pb.Quote:
        """It on the wire."""
        return pb.Quote(low=self.low, likely=self.likely, high=self.high, gpus=self.gpus, jobs=self.jobs)


def of(units: float, measured: Sequence[tuple[float, float]], gpus: float) -> Quote | None:
    """A quote.

    Args:
        units: Work of the job.
        measured: Work and seconds of others.
        gpus: That the job would have.

    Returns:
        None if too few of the others had about as much work.
    """
    alike = [(work, seconds) for work, seconds in measured if units / _ALIKE <= work <= units * _ALIKE]
    if len(alike) < LEAST:
        return None
    tenths = quantiles((seconds / work for work, seconds in alike), n=10, method="inclusive")
    return Quote(tenths[0] * units, tenths[4] * units, tenths[8] * units, gpus, len(alike))


class Quotes:
    """Quotes of the jobs of a store.

    Args:
        store: Knows what jobs took.
        gpus: That jobs have on this worker with each slot.
        by_kind: Those that jobs of some kinds have instead.
    """

    def __init__(self, store: AccountStore, gpus: float = 0, by_kind: Mapping[str, float] = NOTHING) -> None:
        self._store, self._gpus, self._by_kind = store, gpus, by_kind
        self._known: dict[tuple[str, str, float], tuple[float, Sequence[tuple[float, float]]]] = {}
        self._lock = threading.Lock()

    def quote(self, spec: pb.JobSpec) -> Quote | None:
        """The quote of a spec that the worker has filled in; None if too little is known."""
        if spec.work_units <= 0:
            return None
        kind = spec.WhichOneof("kind") or ""
        gpus = self._by_kind.get(kind, self._gpus) * slots_of(spec)
        return of(spec.work_units, self._measured(kind, spec.scale, gpus), gpus)

    def _measured(self, kind: str, scale: str, gpus: float) -> Sequence[tuple[float, float]]:
        now = time.monotonic()
        with self._lock:
            known = self._known.get((kind, scale, gpus))
            if known is not None and now - known[0] < _FRESH:
                return known[1]
        found = self._store.measured(kind, scale, gpus)
        with self._lock:
            self._known = {key: value for key, value in self._known.items() if now - value[0] < _FRESH}
            self._known[kind, scale, gpus] = now, found
        return found


def too_dear(quote: Quote | None, spec: pb.JobSpec) -> FailedPrecondition | None:
    """Why a job is refused that will cost more than its `max_cost`; None if it may cost less."""
    if quote is None or not spec.HasField("max_cost"):
        return None
    most, slots = spec.max_cost.seconds + spec.max_cost.nanos / 1e9, slots_of(spec)
    if quote.low * slots <= most:
        return None
    each = f" in each of {slots} slots" if slots > 1 else ""
    return FailedPrecondition(
        f"max_cost: {most:g} s, but {quote.jobs} jobs like it took {quote.low:.3g} to {quote.high:.3g} s{each} for as "
        "much work",
        field="spec.max_cost",
    )
