"""Claims jobs, supervises their processes, and takes over the jobs of workers that are gone.

One thread looks at everything about once a second, or at once when it is nudged. A heartbeat says that somebody
supervises a job, not that the job gets on: that is what its events say, and a job without new ones for long is ended.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ouzel.errors import Unavailable
from ouzel.worker.artifacts.protocol import StorageAway
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.environment import JobEnvironment
from ouzel.worker.metrics import WorkerMetrics
from ouzel.worker.processes import identity
from ouzel.worker.processes.executor import Executor, Task
from ouzel.worker.runner.reclaim import StalledJobs
from ouzel.worker.runner.supervisor import Slot, Supervised, Timing, together
from ouzel.worker.store import retry_policy
from ouzel.worker.store.job import Lease
from ouzel.worker.store.limits import EachLimits, Limits
from ouzel.worker.store.protocol import LeaseLost, WorkerStore

_log = logging.getLogger(__name__)
_COLLECT_SECONDS = 3600.0
_PROBE_SECONDS = 0.1
_AFTER_ERROR = 1.0  # s
_LEASES = 3  # for which a worker is known to others after it was heard of
_AFTER_UNAVAILABLE = 5.0  # s until the executor is asked again


@dataclass(frozen=True)
class RunnerOptions:
    """How jobs are claimed and supervised.

    Attributes:
        timing: Of a job's process.
        lease: Time without a heartbeat after which a job may be taken over, in seconds.
        limits: Of each owner.
    """

    timing: Timing = field(default_factory=Timing)
    lease: float = 15.0
    limits: EachLimits = field(default_factory=Limits)

    @property
    def beat(self) -> float:
        """Time between two heartbeats, in seconds."""
        return self.timing.beat


class Runner:
    """Claims queued jobs and supervises their processes, in a thread of its own.

    Args:
        store: Holds the jobs.
        executor: Starts the processes.
        slots: Room for jobs; one runs in each at a time.
        environment: The settings that all jobs share.
        options: How jobs are claimed and supervised.
        metrics: That count; None counts where nobody reads.

    Attributes:
        name: Of this worker in leases.
        slots: Jobs that may run at a time.
    """

    def __init__(
        self,
        store: WorkerStore,
        executor: Executor,
        slots: Sequence[Slot],
        environment: JobEnvironment,
        *,
        options: RunnerOptions | None = None,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        self.name = f"{identity.name(os.getpid())}/{secrets.token_hex(4)}"
        self._store, self._executor, self._environment = store, executor, environment
        self._options = options or RunnerOptions()
        self._free, self.slots, self._metrics = list(slots), len(slots), metrics or WorkerMetrics()
        self._running: dict[Lease, Supervised] = {}
        self._stalled = StalledJobs(store, executor, self.name, self._options.lease, lost=self._metrics.lost)
        self._artifacts = environment.open_artifacts()
        self._nudged, self._draining = threading.Event(), threading.Event()
        self._collected = time.monotonic()
        self._paused = self._entered = float("-inf")
        self._thread = threading.Thread(target=self._loop, name="runner", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def nudge(self) -> None:
        """Has the thread look at once, because something has changed."""
        self._nudged.set()

    def stop(self) -> None:
        """Lets all jobs write their checkpoints and go back into the queue; kills those that take too long."""
        self._draining.set()
        self.nudge()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(Unavailable):  # then it is forgotten after a while
            self._store.leave(self.name)

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._running)

    def _loop(self) -> None:
        while not (self._draining.is_set() and not self._running):
            nudged = self._nudged.wait(self._pause())
            self._nudged.clear()
            try:
                self._look(nudged)
            except Unavailable as error:
                _log.warning("the store does not answer; the jobs go on: %s", error)
                time.sleep(_AFTER_ERROR)
            except Exception:  # noqa: BLE001 - no error may end the loop
                _log.exception("the runner goes on after an error")
                time.sleep(_AFTER_ERROR)

    def _pause(self) -> float:
        """Short while there are processes, because nothing signals their end."""
        return min(_PROBE_SECONDS, self._options.beat) if self._running else self._options.beat

    def _look(self, nudged: bool) -> None:
        for lease, each in list(self._running.items()):
            if each.look(nudged, self._draining.is_set()):
                del self._running[lease]
                self._free.extend(each.slot.parts or (each.slot,))
        if self._draining.is_set():
            return
        self._enter()
        while self._free and self._may_claim() and self._claim():
            pass
        self._stalled.reclaim()
        if time.monotonic() - self._collected > _COLLECT_SECONDS:
            self._collected = time.monotonic()
            # It may take long, and no heartbeat can wait for it.
            threading.Thread(target=self._collect, name="collect", daemon=True).start()

    def _collect(self) -> None:
        """Removes the files that no job and no data set needs."""
        try:
            self._artifacts.collect(self._store.referenced)
            Datasets(self._environment.uploads, cache=self._environment.upload_cache).collect_all()
        except (Unavailable, StorageAway, OSError) as error:
            _log.warning("not all could be collected: %s", error)

    def _enter(self) -> None:
        """Has others know of this worker's slots, as often as leases are looked at."""
        now = time.monotonic()
        if now - self._entered >= self._options.lease / 4:
            self._store.enter(self.name, self.slots, _LEASES * self._options.lease)
            self._entered = now

    def _may_claim(self) -> bool:
        """A job that is claimed while nothing can be started would only be put back."""
        return time.monotonic() >= self._paused and self._executor.ready()

    def _claim(self) -> bool:
        free = self._free[0]
        claimed = self._store.claim(
            self.name,
            limits=self._options.limits,
            gpus=free.gpus,
            gpus_by_kind=free.by_kind,
            free=len(self._free),
            slots=self.slots,
        )
        if claimed is None:
            return False
        job, lease = claimed
        first = job.attempt == 1 and job.started is not None
        self._metrics.claimed(job.kind, (job.started or 0.0) - job.created if first else None)
        taken, self._free = self._free[: job.slots], self._free[job.slots :]
        slot = together(taken)
        try:
            handle = self._executor.submit(
                Task(
                    job.id,
                    job.attempt,
                    self.name,
                    self._environment,
                    variables=slot.environment,
                    kind=job.kind,
                    workers=job.slots,
                )
            )
        except Unavailable as error:  # no fault of the job: it is not counted
            _log.warning("%s: put back into the queue: %s", job.id, error)
            self._free.extend(taken)
            self._paused = time.monotonic() + _AFTER_UNAVAILABLE
            self._metrics.attempted(job.kind, "not_started")
            self._store.abandon(lease, "no process could be started now")
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the job must not stay RUNNING
            _log.exception("%s: no process could be started", job.id)
            self._free.extend(taken)
            self._metrics.attempted(job.kind, "not_started")
            self._store.fail(
                lease, retry_policy.infrastructure(f"no process could be started ({type(error).__name__})")
            )
            return True
        self._running[lease] = Supervised(
            self._store,
            self._executor,
            job,
            lease,
            handle=handle,
            slot=slot,
            timing=self._options.timing,
            metrics=self._metrics,
        )
        with suppress(LeaseLost):  # the next heartbeat finds out
            self._store.attach(lease, handle)
        return True
