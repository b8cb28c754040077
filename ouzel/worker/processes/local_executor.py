"""The executor of one machine: a spawned process per job, in a process group of its own.

A job's process has a pipe from the one that started it, which never writes to it: when the pipe closes, the process
ends itself. So no process goes on computing after its worker was killed.
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

from ouzel.worker.processes import identity
from ouzel.worker.processes.executor import VARIABLE, Probe, State, Task

_REMEMBERED = 1000  # exit statuses


class LocalExecutor:
    """An executor of processes on this machine.

    Args:
        logs: Folder for what the processes write.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._own: dict[str, subprocess.Popen[bytes]] = {}
        self._codes: dict[str, int] = {}
        self._lock = threading.Lock()
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)

    def submit(self, task: Task) -> str:
        log = self._logs / f"{task.job}-{task.attempt}.log"
        environment = os.environ | dict(task.variables) | {VARIABLE: task.to_json(), "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "ouzel.worker.processes.job_process",
                    "--job",
                    task.job,
                    "--attempt",
                    str(task.attempt),
                ],
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

    def logs(self, handle: str, last: int = 4096) -> str:
        path = self._logs / Path(handle.rpartition("/")[2]).name
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - last))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def _bury(self, handle: str, process: subprocess.Popen[bytes]) -> Probe:
        """Until a process that has ended is waited for, its id is not given away: its children can be ended."""
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return Probe(State.RUNNING)
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        if process.stdin:
            process.stdin.close()
        del self._own[handle]
        self._codes[handle] = code
        if len(self._codes) > _REMEMBERED:
            del self._codes[next(iter(self._codes))]
        return Probe(State.ENDED, code)
