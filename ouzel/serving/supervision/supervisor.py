"""Keeping the parts of the services up: what died or hangs is started again, with growing pauses, for ever.

One thread per part looks after it, so that a part which takes long to start does not keep the other waiting. A part is
known by what is recorded in the state folder, not as a child of this process: so a new supervisor can take over from
one that was killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from ouzel.errors import OuzelError
from ouzel.serving import front_door, job_worker, launch, processes, state_folder
from ouzel.serving.errors import StartFailed
from ouzel.serving.options import ServingOptions
from ouzel.serving.supervision import health, journal
from ouzel.serving.supervision.journal import Restarts, Supervision
from ouzel_protos.local import SUPERVISOR

logger = logging.getLogger(__name__)
_COMPUTES = 0.05  # of a core: more than an idle process takes
_ENDS = 0.5  # s for a keeper to end; one that still waits for an answer does so without effect
_CHECKPOINT = 5.0  # s for the jobs of a worker that hangs to save where they stand


@dataclass(frozen=True)
class Patience:
    """Times of the supervisor, in seconds.

    `hung_after` is generous: a machine that swaps, or a Java process that collects garbage, answers in the end, and a
    restart costs all requests in flight.

    Attributes:
        look: Between two looks whether a process lives.
        ask: Between two questions.
        answer: For an answer.
        hung_after: Without an answer, after which a part is started again.
        busy: A part that computes gets so many times `hung_after`.
        longest: The longest pause between two starts.
        healthy: After which the pauses begin at 0 again.
    """

    look: float = 0.5
    ask: float = 10.0
    answer: float = 5.0
    hung_after: float = 60.0
    busy: float = 5.0
    longest: float = 60.0
    healthy: float = 60.0

    def pause(self, tries: int) -> float:
        """Before the next start, after `tries` of them in short order: 0, 1, 2, 4, ..."""
        return 0.0 if tries == 0 else float(min(self.longest, 2 ** min(tries - 1, 30)))


@dataclass(frozen=True)
class Part:
    """A part of the services.

    Attributes:
        name: Of the part.
        pid: Returns the id of its process; None if that is gone.
        ask: Returns why there is no answer within so many seconds; "" if there is one.
        start: Stops what is left of it and starts it. Returns when it serves, raises OuzelError or OSError. It reports
            how far it is.
    """

    name: str
    pid: Callable[[], int | None]
    ask: Callable[[float], str]
    start: Callable[[Callable[[str], None]], object]


class Keeper:
    """Looks after one part, in a thread of its own.

    Args:
        part: The part.
        patience: When it counts as hung.
        changed: Called with each change of `record`.
    """

    def __init__(self, part: Part, patience: Patience, changed: Callable[[], None] = lambda: None) -> None:
        self.name, self.record = part.name, Restarts()
        self._part, self._patience, self._changed = part, patience, changed
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._tries = 0
        self._up_since = self._answered = self._asked = time.monotonic()
        self._cpu = 0.0
        self.thread = threading.Thread(target=self._run, name=f"keeper of {part.name}", daemon=True)

    def nudge(self) -> None:
        """Start the part now if it is down, whatever pause there is."""
        self._wake.set()

    def stop(self) -> None:
        """Start nothing any more. A start that is under way goes on until its process is ended."""
        self._stopping.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if reason := self._trouble():
                self._restart(reason)
            elif self._tries and time.monotonic() - self._up_since >= self._patience.healthy:
                self._tries = 0
            self._sleep(self._patience.look)

    def _sleep(self, seconds: float) -> None:
        self._wake.wait(seconds)
        if not self._stopping.is_set():
            self._wake.clear()

    def _trouble(self) -> str:
        """Why the part has to be started again; "" if it need not."""
        pid, patience, now = self._part.pid(), self._patience, time.monotonic()
        if pid is None:
            return f"{self.name} was not running"
        if now - self._asked < min(patience.ask, patience.hung_after / 4):
            return ""
        why = self._part.ask(min(patience.answer, patience.hung_after))
        elapsed, self._asked = time.monotonic() - self._asked, time.monotonic()
        before, self._cpu = self._cpu, processes.cpu_seconds(pid)
        if not why:
            self._answered = self._asked
            return ""
        computes = self._cpu - before > _COMPUTES * elapsed
        silent = self._asked - self._answered
        if silent < patience.hung_after * (patience.busy if computes else 1.0):
            return ""
        return f"{self.name}, process {pid}, has not answered for {silent:.0f} s ({why})"

    def _restart(self, reason: str) -> None:
        name = self.name
        logger.warning("%s; it is started again", reason)
        while not self._stopping.is_set():
            pause = self._patience.pause(self._tries)
            self._tell(reason=reason, next=time.time() + pause)
            if pause:
                self._sleep(pause)
            if self._stopping.is_set():
                return
            self._tries += 1
            self._tell(starting=True, progress="")
            try:
                self._part.start(lambda progress: self._tell(progress=progress))
            except (OuzelError, OSError) as error:
                if self._stopping.is_set():
                    return
                trouble = " ".join(str(error).split())
                self._tell(trouble=trouble, starting=False)
                logger.error("%s: %s; next try in %g s", name, trouble, self._patience.pause(self._tries))
                continue
            self._up_since = self._answered = self._asked = time.monotonic()
            self._tell(restarts=self.record.restarts + 1, last=time.time(), trouble="", next=0.0, starting=False)
            logger.warning("%s: started again, process %s", name, self._part.pid())
            return

    def _tell(self, **changes: object) -> None:
        self.record = replace(self.record, **changes)  # type: ignore[arg-type]
        self._changed()


def parts(options: ServingOptions) -> tuple[Part, ...]:
    """TorchServe; the worker and the gateway if there are to be such."""
    state = options.state

    def torchserve_pid() -> int | None:
        record = state_folder.running(state)
        return record["pid"] if record else None

    def ask_torchserve(timeout: float) -> str:
        record = state_folder.running(state)
        return health.torchserve(record, timeout) if record else "it is not there"

    def worker_pid() -> int | None:
        record = state_folder.running_worker(state)
        return record["pid"] if record else None

    def ask_worker(timeout: float) -> str:
        record = state_folder.running_worker(state)
        return health.worker(record["grpc"], timeout) if record else "it is not there"

    def gateway_pid() -> int | None:
        record = state_folder.running_gateway(state)
        return record["pid"] if record else None

    def ask_gateway(timeout: float) -> str:
        record = state_folder.running_gateway(state)
        return health.gateway(record["health"], timeout) if record else "it is not there"

    def start_torchserve(tell: Callable[[str], None]) -> None:
        launch.restart_torchserve(options, lambda one: tell(f"{one.model} {one.version}, {one.number} of {one.total}"))

    def start_worker(_tell: Callable[[str], None]) -> None:
        processes.stop(state, _CHECKPOINT, processes.WORKER)
        if (foreign := worker_pid()) is not None:
            raise StartFailed(f"process {foreign} is not one that `ouzel up` has started; it is left alone")
        job_worker.start(options, again=True)

    torchserve = Part(processes.TORCHSERVE, torchserve_pid, ask_torchserve, start_torchserve)
    worker = Part(processes.WORKER, worker_pid, ask_worker, start_worker)
    gateway = Part(processes.GATEWAY, gateway_pid, ask_gateway, lambda _tell: front_door.restart(options))
    return (torchserve, *((worker,) if options.worker else ()), *((gateway,) if options.gateway else ()))


def _nudge(keepers: Sequence[Keeper]) -> None:
    for each in keepers:
        each.nudge()


@contextlib.contextmanager
def supervising(state: Path, kept: Sequence[Part], patience: Patience = Patience()) -> Iterator[None]:
    """Within it the parts are kept up; afterwards nothing is started any more, and they are as they were.

    To be used in the main thread, for `ouzel up` talks to it by a signal.
    """
    lock = threading.Lock()
    begun = psutil.Process().create_time()

    def record() -> None:
        with lock:
            restarts = {each.name: each.record for each in keepers}
            journal.write(state, Supervision(os.getpid(), begun, patience.hung_after, restarts))

    keepers = [Keeper(part, patience, record) for part in kept]
    before = signal.signal(journal.NUDGE, lambda *_: _nudge(keepers))
    record()
    for each in keepers:
        each.thread.start()
    try:
        yield
    finally:
        for each in keepers:
            each.stop()
        for each in keepers:
            each.thread.join(_ENDS)
            while each.thread.is_alive() and each.record.starting:
                processes.stop(state, 0, each.name)  # it waits for what it is starting
                each.thread.join(_ENDS)
        signal.signal(journal.NUDGE, before)
        (state / SUPERVISOR).unlink(missing_ok=True)
