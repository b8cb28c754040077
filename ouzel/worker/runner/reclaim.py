"""Jobs whose worker is gone, taken back into the queue.

A lease lives as long as its beat goes on changing, which is measured on this machine's monotonic clock: no clock that
jumps, no clocks that differ. And a job is lost only if the executor says so as well: a worker that is stopped for a
while, with a process that computes on, has lost nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from ouzel.worker.processes import identity
from ouzel.worker.processes.executor import Executor, State
from ouzel.worker.store.job import LeaseView
from ouzel.worker.store.protocol import LeaseLost, WorkerStore

_log = logging.getLogger(__name__)
_UNKNOWN = 3  # times the lease must have run out where it is unknown whether the process lives


class StalledJobs:
    """The jobs of other workers, whose leases are watched.

    Args:
        store: Holds the leases.
        executor: Says whether a job's process lives.
        mine: The worker whose leases are left alone.
        lease: Time without a heartbeat after which a lease has run out, in seconds.
        lost: Called with each job that was taken back.
    """

    def __init__(
        self,
        store: WorkerStore,
        executor: Executor,
        mine: str,
        lease: float,
        *,
        lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._executor, self._mine, self._lease, self._lost = store, executor, mine, lease, lost
        self._seen: dict[LeaseView, float] = {}
        self._looked = float("-inf")

    def reclaim(self) -> None:
        """Puts the jobs of lost workers back into the queue. Looks at most four times per lease."""
        now = time.monotonic()
        if now - self._looked < self._lease / 4:
            return
        self._looked = now
        others = [each for each in self._store.leases() if each.lease.worker != self._mine]
        self._seen = {each: self._seen.get(each, now) for each in others}
        for each, since in self._seen.items():
            if self._is_lost(each, now - since):
                with suppress(LeaseLost):
                    self._store.reclaim(each, "its worker is gone")
                    self._lost()
                    _log.warning("%s: taken back from %s", each.lease.job, each.lease.worker)

    def _is_lost(self, view: LeaseView, unchanged: float) -> bool:
        worker_dead = identity.is_dead(view.lease.worker.rpartition("/")[0])
        probe = self._executor.probe(view.handle)
        if probe.state is State.RUNNING:
            if worker_dead:  # orphaned; it will exit soon
                self._executor.stop(view.handle, kill=True)
            return False
        if worker_dead:
            return True
        return unchanged >= self._lease * (1 if probe.state is State.ENDED else _UNKNOWN)
