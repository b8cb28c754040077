"""The processes of a state folder: TorchServe's Java process, its Python workers, and whatever those start.

They are known by environment variables that all of them inherit. These hold as long as a process lives: they outlast
the command that started it, survive a killed parent, and no recycled process id has them by chance. One names the run,
the other the part of the services that a process belongs to, so that a part can be stopped without the others.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from ouzel.serving.config import RUN

PART = "OUZEL_PART"  # marks each process with the part that it belongs to, which is one of these
TORCHSERVE, WORKER, GATEWAY, SUPERVISOR = "torchserve", "worker", "gateway", "supervisor"

GRACE = 10.0  # seconds; TorchServe takes three to four to stop by itself
_KILLED = 5.0  # seconds until a killed process is gone; more means that the kernel holds it


def belonging_to(state: Path, part: str = "") -> list[psutil.Process]:
    """The living processes that runs of a state folder started, without this one.

    Args:
        state: The state folder.
        part: Only those of this part; "" is all.
    """
    others = (process for process in psutil.process_iter() if process.pid != os.getpid())
    return [process for process in others if _belongs(process, state, part)]


def _belongs(process: psutil.Process, state: Path, part: str) -> bool:
    try:
        environment = process.environ()
    except (psutil.Error, OSError):  # gone, a zombie, or of another user
        return False
    return environment.get(RUN, "").startswith(f"{state}/") and part in ("", environment.get(PART))


def stop(state: Path, grace: float = GRACE, part: str = "") -> int:
    """Stops the processes of a state folder: asks the topmost to end, and kills all that are left.

    Args:
        state: The state folder.
        grace: Time until they are killed, in seconds.
        part: Only those of this part; "" is all.

    Returns:
        How many ran.
    """
    members = belonging_to(state, part)
    ids = {process.pid for process in members}
    for process in members:
        if _parent_id(process) not in ids:
            _send(process, kill=False)
    _wait(members, grace)
    deadline = time.monotonic() + _KILLED
    # Looked up again each time, for a worker may just have been respawned.
    while (left := belonging_to(state, part)) and time.monotonic() < deadline:
        for process in left:
            _send(process, kill=True)
        _wait(left, 0.5)
    return len(members)


def find(pid: int, create_time: float) -> psutil.Process | None:
    """The process that was recorded like this, if it lives and is not a later one of the same id."""
    try:
        process = psutil.Process(pid)
        return process if abs(process.create_time() - create_time) < 1 and alive(process) else None
    except psutil.Error:
        return None


def end(process: psutil.Process, grace: float) -> None:
    """Asks one process to end, and kills it if it does not.

    Args:
        process: The process.
        grace: Time until it is killed, in seconds.
    """
    _send(process, kill=False)
    _wait([process], grace)
    if alive(process):
        _send(process, kill=True)
        _wait([process], _KILLED)


def stopped(pid: int) -> bool:
    """Whether the process is halted by SIGSTOP or a debugger."""
    try:
        return bool(psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP))
    except psutil.Error:
        return False


def started(pid: int) -> float | None:
    """Seconds since the epoch at which the process began; None if it does not exist."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def cpu_seconds(pid: int) -> float:
    """Processor time that the process has used up to now; 0 if it does not exist."""
    try:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    except psutil.Error:
        return 0.0


def _wait(members: list[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(alive, members)) and time.monotonic() < deadline:
        time.sleep(0.05)


def alive(process: psutil.Process) -> bool:
    """Whether a process runs. A zombie does not; in a container it may stay for ever."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _parent_id(process: psutil.Process) -> int | None:
    try:
        return int(process.ppid())
    except psutil.Error:
        return None


def _send(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
            process.resume()  # one that is halted would not hear of it
    except psutil.Error:  # ended meanwhile
        pass
