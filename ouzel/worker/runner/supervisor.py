"""Supervises the process of one job: heartbeats while it lives, an end when it must, the result to the store."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ouzel.gpus import VISIBLE
from ouzel.worker.metrics import WorkerMetrics
from ouzel.worker.processes.executor import Executor, Probe, State
from ouzel.worker.store import retry_policy
from ouzel.worker.store.job import Job, Lease
from ouzel.worker.store.protocol import LeaseLost, WorkerStore
from ouzel_protos.v1 import job_pb2 as pb

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slot:
    """Room for one job.

    Attributes:
        name: For people to read.
        environment: Variables of the job's process, CUDA_VISIBLE_DEVICES above all.
        gpus: How many GPUs a job there has.
        by_kind: How many a job of some kinds has, where a cluster gives them; less than 1 is a share.
        parts: The slots that it was made of; empty for one that is its own.
    """

    name: str
    environment: Mapping[str, str]
    gpus: float = 0
    by_kind: Mapping[str, float] = field(default_factory=dict)
    parts: tuple[Slot, ...] = ()

    def of(self, kind: str) -> float:
        """How many GPUs a job of a kind has."""
        return self.by_kind.get(kind, self.gpus)


def together(slots: Sequence[Slot]) -> Slot:
    """Several slots as one, for a job that computes in several processes. It sees the GPUs of all."""
    if len(slots) == 1:
        return slots[0]
    environment = dict(slots[0].environment)
    if VISIBLE in environment:
        environment[VISIBLE] = ",".join(dict.fromkeys(each.environment[VISIBLE] for each in slots))
    name = "+".join(each.name for each in slots)
    by_kind = {kind: sum(each.of(kind) for each in slots) for kind in slots[0].by_kind}
    return Slot(name, environment, sum(each.gpus for each in slots), by_kind, tuple(slots))


@dataclass(frozen=True)
class Timing:
    """Times of a job's process, in seconds.

    Attributes:
        beat: Between two heartbeats.
        watchdog: Without an event, after which the process counts as hung.
        cancel_grace: From asking the process to stop because of a cancel until it is killed.
        pause_grace: The same for a pause, and when the worker goes down.
        unknown: Without a word of the executor and without an event, after which the job is given to another process.
            As in `reclaim`, three leases: only where both are silent is a job lost.
    """

    beat: float = 1.0
    watchdog: float = 600.0
    cancel_grace: float = 1.0
    pause_grace: float = 30.0
    unknown: float = 45.0


class Supervised:
    """One job's process, supervised.

    Args:
        store: Holds the job.
        executor: Runs the process.
        job: The job.
        lease: The right to work on it.
        handle: Of the process.
        slot: Where it runs.
        timing: How long it may take.
        metrics: That count what becomes of it.
    """

    def __init__(
        self,
        store: WorkerStore,
        executor: Executor,
        job: Job,
        lease: Lease,
        *,
        handle: str,
        slot: Slot,
        timing: Timing,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        self.slot, self._gpus = slot, slot.of(job.kind)
        self._metrics = metrics or WorkerMetrics()
        self._store, self._executor = store, executor
        self._job, self._lease, self._handle, self._timing = job, lease, handle, timing
        now = time.monotonic()
        self._since = self._beaten = self._moved = self._seen = self._known = now
        self._sequence = job.last_sequence
        self._asked: float | None = None
        self._ended = 0.0  # when the process was first seen to be gone
        self._grace = timing.pause_grace
        self._verdict: pb.JobError | None = None  # why it is ended, if its owner did not ask for that

    def look(self, nudged: bool, draining: bool) -> bool:
        """Looks at the process, and does what is due.

        Args:
            nudged: Whether not to wait for the next heartbeat.
            draining: Whether the worker goes down.

        Returns:
            Whether the process has ended.

        Raises:
            Unavailable: The store does not answer.
        """
        probe = self._executor.probe(self._handle)
        if probe.state is State.ENDED:
            # A supervisor that was stopped for long does not know when its process ended: one beat is counted at most.
            self._ended = self._ended or min(time.monotonic(), self._seen + self._timing.beat)
            self._close(probe)
            return True
        now = self._seen = time.monotonic()
        if probe.state is State.RUNNING:
            self._known = now
        if nudged or draining or now - self._beaten >= self._timing.beat:
            self._beat(now, draining)
        if probe.state is State.UNKNOWN and self._given_up(now):
            return True
        if self._asked is not None and now - self._asked >= self._grace:
            self._executor.stop(self._handle, kill=True)
        return False

    def _given_up(self, now: float) -> bool:
        """Whether a process that nobody can tell of is left to itself: what it writes from now on is refused."""
        if self._asked is not None:
            if now - self._asked < self._grace + self._timing.cancel_grace:
                return False
        elif now - max(self._known, self._moved) < self._timing.unknown:
            return False
        self._executor.stop(self._handle, kill=True)
        self._ended = now
        self._close(Probe(State.UNKNOWN))
        return True

    def _beat(self, now: float, draining: bool) -> None:
        try:
            flags = self._store.heartbeat(self._lease, self._ran(now), self._gpus)
        except LeaseLost:  # others have the job, or it is done and the process about to end
            self._ask(now, self._timing.cancel_grace)
            return
        self._beaten = now
        if flags.last_sequence != self._sequence:
            self._sequence, self._moved = flags.last_sequence, now
        if flags.cancel:
            self._ask(now, self._timing.cancel_grace)
        elif flags.pause or draining:
            self._ask(now, self._timing.pause_grace)
        elif self._job.timeout is not None and self._ran(now) >= self._job.timeout:
            message = f"it has run for {self._job.timeout:g} s, its timeout"
            self._end(now, pb.JobError(failure_class=pb.JobError.TIMEOUT, message=message))
        elif (most := self._job.max_cost) is not None and (cost := self._ran(now) * self._job.slots) >= most:
            message = f"it has cost {cost:.1f} s, of a max_cost of {most:g} s; {self._reached()}"
            self._end(now, pb.JobError(failure_class=pb.JobError.TIMEOUT, message=message, field="spec.max_cost"))
        elif now - self._moved >= self._timing.watchdog:
            self._end(now, retry_policy.infrastructure(f"no progress for {self._timing.watchdog:g} s"))

    def _ran(self, now: float) -> float:
        """Seconds over all attempts."""
        return self._job.ran + now - self._since

    def _reached(self) -> str:
        try:
            progress = self._store.require_lease(self._lease).progress
        except LeaseLost:
            return "it has ended meanwhile"
        what = f" ({progress.phase})" if progress.phase else ""
        if not progress.steps:
            return f"it had counted no steps yet{what}"
        return f"it had reached step {progress.step} of {progress.steps}{what}"

    def _ask(self, now: float, grace: float) -> None:
        """Once; a shorter grace counts from now."""
        if self._asked is None or grace < self._grace:
            self._executor.stop(self._handle)
            self._asked, self._grace = now, grace

    def _end(self, now: float, verdict: pb.JobError) -> None:
        """The store hears of it once the process is gone; until then no other worker may have the job."""
        if self._verdict is None:
            if verdict.failure_class == pb.JobError.INFRASTRUCTURE:  # not what its owner has asked for
                _log.warning("%s: %s; its process is ended", self._job.id, verdict.message)
            self._verdict, self._asked, self._grace = verdict, now, 0.0

    def _close(self, probe: Probe) -> None:
        """A process that has told the store itself has no lease any more."""
        # Before the lease ends, so that the next attempt begins with what this one has used.
        self._store.settle(self._lease, self._ran(self._ended), self._gpus)
        with suppress(LeaseLost):
            if self._verdict is not None:
                self._store.fail(self._lease, self._verdict)
            elif self._asked is not None:
                self._store.abandon(self._lease, "stopped")
            else:
                self._store.fail(self._lease, retry_policy.infrastructure(_how(probe)))
                _log.warning("%s: %s\n%s", self._job.id, _how(probe), self._executor.logs(self._handle))
        state = self._store.state(self._job.id)
        outcome = "deleted" if state is None else state.name.lower()  # running: others have it by now
        self._metrics.attempted(self._job.kind, outcome, time.monotonic() - self._since)


def _how(probe: Probe) -> str:
    if probe.state is State.UNKNOWN:
        return "nobody can tell what became of the job's process"
    if probe.code is None:
        return "the job's process is gone"
    if probe.code < 0:
        with suppress(ValueError):
            return f"the job's process was ended by {signal.Signals(-probe.code).name}"
    return f"the job's process ended by itself with status {probe.code}"
