"""The executor of a Ray cluster: each attempt of a job is a job of Ray's job service.

Why Ray's jobs and not its tasks or actors. Both start equally fast: measured on two busy cores, 1.5 s from the call to
the first line of the program, against 0.9 to 2.2 s of a detached actor that starts one. But whoever calls tasks must be
part of the cluster, with the same Python and Ray, and is ended by Ray's own library a minute after the head has died:
the worker would take its callers with it. The job service is HTTP, and the worker needs nothing else.

What survives, as measured with Ray 2.60. The head dies: jobs on other nodes compute on for a minute, until their node
ends itself, and a new head has never heard of them. A node's raylet dies: its jobs are killed within 3 s, and Ray says
FAILED 15 s later. So an answer of Ray proves the end of a process only if it has an exit status, or if Ray has ended
the process as we asked, or has never started it. All else is UNKNOWN, and the fence keeps an orphan from writing.

How a job is stopped. Ray ends a job by SIGTERM, then by SIGKILL, once. Here it does both at once (`_AT_ONCE`): that is
the end with force. The word to stop after the next checkpoint goes through the store, see `lease_watch`, and so does
the word to end, for where Ray does not answer.
"""

from __future__ import annotations

import logging
import shlex
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from json import dumps
from pathlib import Path

from ouzel import gpus, secret_files
from ouzel.errors import OuzelError, Unavailable
from ouzel.worker.processes.executor import VARIABLE, Probe, State, Task
from ouzel.worker.processes.ray_cluster import RayCluster
from ouzel.worker.processes.ray_guard import MARKS, MODULE
from ouzel.worker.processes.ray_options import RayOptions
from ouzel.worker.ranks import RESOURCES
from ouzel.worker.store.protocol import WorkerStore

_log = logging.getLogger(__name__)
_PREFIX = "ray/"
_AT_ONCE = {"RAY_JOB_STOP_WAIT_TIME_S": "0"}
_LOOK = 0.25  # s between two looks at each process
_STALE = 5.0  # s after which an answer says nothing any more
_AGAIN = 1.0  # s after an error, and between two attempts to end a process
_ASKED = 60.0  # s after the last question, in which a process is looked at
_REMEMBERED = 1000  # processes that have ended
# Ray has not started the process, and will not.
_NEVER_STARTED = frozenset(
    {
        "RUNTIME_ENV_SETUP_FAILURE",
        "JOB_SUPERVISOR_ACTOR_START_TIMEOUT",
        "JOB_SUPERVISOR_ACTOR_START_FAILURE",
        "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE",
        "JOB_ENTRYPOINT_COMMAND_START_ERROR",
    }
)
_UNKNOWN, _RUNNING = Probe(State.UNKNOWN), Probe(State.RUNNING)


@dataclass
class _Known:
    """What is known of one of Ray's jobs, in seconds of the monotonic clock."""

    probe: Probe
    seen: float  # when Ray said so
    asked: float  # when somebody last wanted to know
    over: bool = False  # whether Ray has nothing more to say
    kill: bool = False
    killed: float = float("-inf")  # when Ray was last told to end it
    told: float = float("-inf")  # when the process was last told through the store


class RayExecutor:
    """An executor of processes on the nodes of a Ray cluster.

    Args:
        logs: Folder for what the processes have written.
        store: Through which processes are told to stop.
        options: The cluster.
        marks: Of the folders that nodes must share, see `shared_folders`.
    """

    def __init__(
        self, logs: Path, store: WorkerStore, options: RayOptions, *, marks: Mapping[str, str] | None = None
    ) -> None:
        self._logs, self._store, self._options, self._marks = logs, store, options, dict(marks or {})
        self._cluster = RayCluster(options.address)
        self._known: dict[str, _Known] = {}
        self._failed = float("-inf")  # when Ray last did not answer
        self._lock, self._wake, self._closed = threading.Lock(), threading.Event(), threading.Event()
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._loop, name="ray-jobs", daemon=True)
        self._thread.start()

    def connect(self) -> None:
        """Makes sure that the cluster can be used. Raises OuzelError."""
        self._cluster.connect()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        self._thread.join()

    def submit(self, task: Task) -> str:
        name = f"{task.job}-{task.attempt}"
        resources = self._options.of(task.kind)
        told = replace(task, patience=self._options.patience, variables={})
        variables = {"OMP_NUM_THREADS": str(resources.threads)} | ({} if resources.gpus else {gpus.VISIBLE: ""})
        if task.workers > 1:  # the job itself is one of them, the others are its actors
            variables[RESOURCES] = dumps(asdict(resources) | {"threads": resources.threads})
        variables |= dict(task.variables) | _AT_ONCE | {VARIABLE: told.to_json(), MARKS: dumps(self._marks)}
        words = [self._options.python, "-m", MODULE, "--job", task.job, "--attempt", str(task.attempt)]
        try:
            self._cluster.submit(name, f"exec {shlex.join(words)} </dev/null", variables, resources)
        except OuzelError as error:  # of the cluster, not of the job
            self._failed = time.monotonic()
            raise Unavailable(str(error)) from error
        now = time.monotonic()
        with self._lock:
            self._known[name] = _Known(_RUNNING, now, now)
        return _PREFIX + name

    def ready(self) -> bool:
        return time.monotonic() - self._failed >= _STALE

    def probe(self, handle: str) -> Probe:
        name = _name(handle)
        if name is None:
            return _UNKNOWN
        now = time.monotonic()
        with self._lock:
            if (known := self._known.get(name)) is not None:
                known.asked = now
                fresh = known.probe.state is State.ENDED or now - known.seen < _STALE
                return known.probe if fresh else _UNKNOWN
        return self._first(name) if self.ready() else _UNKNOWN

    def stop(self, handle: str, *, kill: bool = False) -> None:
        if (name := _name(handle)) is None:
            return
        now = time.monotonic()
        with self._lock:
            known = self._known.setdefault(name, _Known(_UNKNOWN, float("-inf"), now))
            if known.probe.state is State.ENDED:
                return
            repeated = now - known.told < _AGAIN and known.kill >= kill
            known.kill, known.asked = known.kill or kill, now
            if not repeated:
                known.told = now
        if kill:
            self._wake.set()
        if not repeated:
            job, _, attempt = name.rpartition("-")
            try:
                self._store.ask_stop(job, int(attempt), kill=kill)
            except OuzelError:
                if not kill:  # then there is no other way
                    with self._lock:
                        known.told = float("-inf")
                    raise

    def logs(self, handle: str, last: int = 4096) -> str:
        if (name := _name(handle)) is None:
            return ""
        try:
            return (self._logs / f"{name}.log").read_text(encoding="utf-8")[-last:]
        except OSError:
            pass
        try:
            return self._cluster.log(name)[-last:]
        except OuzelError:
            return ""

    def _first(self, name: str) -> Probe:
        """A process that another executor has started."""
        now = time.monotonic()
        try:
            probe = _probe(*self._cluster.look(name))
        except OuzelError:
            self._failed = now
            return _UNKNOWN
        with self._lock:
            self._known.setdefault(name, _Known(probe, now, now, over=probe.state is State.ENDED))
        return probe

    def _loop(self) -> None:
        while not self._closed.is_set():
            self._wake.wait(_LOOK)
            self._wake.clear()
            try:
                for name in self._wanted():
                    self._look(name)
                    if self._closed.is_set():
                        return
            except OuzelError as error:
                if self.ready():
                    _log.warning("%s; what runs there goes on", error)
                self._failed = time.monotonic()
                self._closed.wait(_AGAIN)
            except Exception:  # noqa: BLE001 - no error may end the loop
                _log.exception("looking after the processes of the cluster goes on after an error")
                self._closed.wait(_AGAIN)

    def _wanted(self) -> list[str]:
        """Those to be ended first."""
        now = time.monotonic()
        with self._lock:
            for name in [name for name, each in self._known.items() if now - each.asked > _ASKED]:
                del self._known[name]
            over = [name for name, each in self._known.items() if each.over]
            for name in over[:-_REMEMBERED]:
                del self._known[name]
            live = [name for name, each in self._known.items() if not each.over]
            return sorted(live, key=lambda name: not self._known[name].kill)

    def _look(self, name: str) -> None:
        now = time.monotonic()
        with self._lock:
            if (known := self._known.get(name)) is None:
                return
            due = known.kill and now - known.killed >= _AGAIN
            if due:
                known.killed = now
        if due:
            self._cluster.stop(name)
        status, code, error = self._cluster.look(name)
        probe = _probe(status, code, error)
        over = probe.state is State.ENDED
        if over:
            self._keep_log(name)
        elif status == "PENDING" and known.kill:
            # Ray ends no job that waits for room. If it is started after all, it finds its lease gone.
            probe = Probe(State.ENDED)
        with self._lock:
            known.probe, known.seen, known.over = probe, time.monotonic(), over

    def _keep_log(self, name: str) -> None:
        """As it is kept on one machine: the node may be gone soon."""
        path = self._logs / f"{name}.log"
        try:
            text = self._cluster.log(name)
            if text:
                with secret_files.open_log(path) as file:
                    file.write(text.encode())
        except (OuzelError, OSError) as error:
            _log.warning("%s: its log could not be kept: %s", name, error)


def _name(handle: str) -> str | None:
    """The name of one of our jobs in Ray; None for another executor's handle."""
    name = handle.removeprefix(_PREFIX)
    known = name != handle and name.rpartition("-")[0] and name.rpartition("-")[2].isdecimal()
    return name if known else None


def _probe(status: str, code: int | None, error: str) -> Probe:
    if status in ("PENDING", "RUNNING"):
        return _RUNNING
    if status == "STOPPED":
        return Probe(State.ENDED, -signal.SIGKILL)
    if code is not None:
        return Probe(State.ENDED, code)
    return Probe(State.ENDED) if error in _NEVER_STARTED else _UNKNOWN
