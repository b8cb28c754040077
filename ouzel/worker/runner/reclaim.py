"""Jobs whose worker is gone, taken back into the queue.

A lease lives as long as its beat goes on changing, which is measured on this machine's monotonic clock: no clock that
jumps, no clocks that differ. And a job is lost only if the executor says so as well: a worker that is stopped for a
while, with a process that computes on, has lost nothing.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress

from ouzel.worker.processes import identity
from ouzel.worker.processes.executor import Executor, State
from ouzel.worker.store.job import Held
from ouzel.worker.store.protocol import LeaseLost, Workers

_log = logging.getLogger(__name__)
_UNKNOWN = 3  # times the lease must have run out where nobody can tell whether the process lives


class Lost:
    """mine: the worker whose leases are left alone. lease: seconds."""

    def __init__(self, store: Workers, executor: Executor, mine: str, lease: float, host: str = "") -> None:
        self._store, self._executor, self._mine, self._lease, self._host = store, executor, mine, lease, host
        self._seen: dict[Held, float] = {}
        self._looked = float("-inf")

    def take_back(self) -> None:
        """Looks at most four times per lease."""
        now = time.monotonic()
        if now - self._looked < self._lease / 4:
            return
        self._looked = now
        others = [each for each in self._store.held() if each.lease.worker != self._mine]
        self._seen = {each: self._seen.get(each, now) for each in others}
        for each, since in self._seen.items():
            if self._is_lost(each, now - since):
                with suppress(LeaseLost):
                    self._store.reclaim(each, "its worker is gone")
                    _log.warning("%s: taken back from %s", each.lease.job, each.lease.worker)

    def _is_lost(self, held: Held, unchanged: float) -> bool:
        worker_dead = identity.is_dead(held.lease.worker.rpartition("/")[0], self._host)
        probe = self._executor.probe(held.handle)
        if probe.state is State.RUNNING:
            if worker_dead:  # it has no one to answer to, and is about to notice
                self._executor.stop(held.handle, kill=True)
            return False
        if worker_dead:
            return True
        return unchanged >= self._lease * (1 if probe.state is State.ENDED else _UNKNOWN)
