"""The executor of one machine: a process per job, in a process group of its own.

It is forked from one that has imported what jobs need, or started anew where that cannot be done or is not ready.
A job's process has a pipe from this one, which never writes to it: when the pipe closes, the process ends itself. So no
process goes on computing after its worker was killed. One whose parent is the process that forks, and was killed, does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil

from ouzel import secret_files
from ouzel.forking.client import Forked, ForkServer, ServerLost
from ouzel.forking.server import ended
from ouzel.worker.processes import identity
from ouzel.worker.processes.executor import VARIABLE, Probe, State, Task

_MODULE = "ouzel.worker.processes.job_process"
_REMEMBERED = 1000  # exit statuses
_RUNNING = Probe(State.RUNNING)


class LocalExecutor:
    """An executor of processes on this machine.

    Args:
        logs: Folder for what the processes write.
        forks: Has them forked; None starts each anew.
    """

    def __init__(self, logs: Path, forks: ForkServer | None = None) -> None:
        self._logs, self._forks = logs, forks
        self._own: dict[str, subprocess.Popen[bytes] | Forked] = {}
        self._codes: dict[str, int | None] = {}
        self._lock = threading.Lock()
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)

    def submit(self, task: Task) -> str:
        log = self._logs / f"{task.job}-{task.attempt}.log"
        arguments = ("--job", task.job, "--attempt", str(task.attempt))
        environment = os.environ | dict(task.variables) | {VARIABLE: task.to_json(), "PYTHONUNBUFFERED": "1"}
        process: subprocess.Popen[bytes] | Forked | None = None
        with secret_files.open_log(log) as output:
            if self._forks is not None:
                file = output.fileno()
                process = self._forks.fork(_MODULE, *arguments, environment=environment, stdout=file, stderr=file)
            if process is None:
                process = subprocess.Popen(
                    [sys.executable, "-m", _MODULE, *arguments],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        handle = f"{identity.name(process.pid)}/{log.name}"
        with self._lock:
            self._own[handle] = process
        return handle

    def ready(self) -> bool:
        return True

    def probe(self, handle: str) -> Probe:
        with self._lock:
            process = self._own.get(handle)
            if process is not None:
                return self._bury(handle, process)
            if handle in self._codes:
                return Probe(State.ENDED, self._codes[handle])
        try:
            running = identity.find(handle.rpartition("/")[0])
        except LookupError:
            return Probe(State.UNKNOWN)
        return Probe(State.RUNNING if running else State.ENDED)

    def stop(self, handle: str, *, kill: bool = False) -> None:
        # Locked, so that it is not waited for meanwhile and its id stays its own.
        with self._lock, contextlib.suppress(LookupError, OSError, psutil.Error):
            process = identity.find(handle.rpartition("/")[0])
            if process is None:
                return
            if kill:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        pass

    def logs(self, handle: str, last: int = 4096) -> str:
        path = self._logs / Path(handle.rpartition("/")[2]).name
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - last))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def _bury(self, handle: str, process: subprocess.Popen[bytes] | Forked) -> Probe:
        """Until a process that has ended is waited for, its id is not given away: its children can be ended."""
        if isinstance(process, Forked):
            probe = _forked(process, handle.rpartition("/")[0])
        else:
            probe = Probe(State.ENDED, process.wait()) if ended(process.pid) else _RUNNING
        if probe.state is State.ENDED:
            if process.stdin:
                process.stdin.close()
            del self._own[handle]
            self._codes[handle] = probe.code
            if len(self._codes) > _REMEMBERED:
                del self._codes[next(iter(self._codes))]
        return probe


def _forked(process: Forked, named: str) -> Probe:
    if identity.find(named) is not None:  # the process that forks need not be asked
        return _RUNNING
    try:
        code = process.code()
        return _RUNNING if code is None else Probe(State.ENDED, code)
    except ServerLost:  # another process is its parent now; how it ended is not known
        with contextlib.suppress(psutil.Error):  # it is gone
            if identity.name(process.pid) != named:
                return Probe(State.ENDED)  # its id was given away, so that nobody of its group is left
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        return Probe(State.ENDED)
