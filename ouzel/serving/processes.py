"""The processes of a state folder: TorchServe's Java process, its Python workers, and whatever those start.

They are known by an environment variable that all of them inherit, which holds as long as they live: it outlasts the
command that started them, survives a killed parent, and no recycled process id has it by chance.
"""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from ouzel.serving.config import RUN

GRACE = 10.0  # seconds; TorchServe takes three to four to stop by itself
_KILLED = 5.0  # seconds until a killed process is gone; more means that the kernel holds it


def belonging_to(state: Path) -> list[psutil.Process]:
    """Every process that a run of the state folder `state` started and that lives."""
    return [process for process in psutil.process_iter() if _run_of(process).startswith(f"{state}/")]


def _run_of(process: psutil.Process) -> str:
    try:
        return str(process.environ().get(RUN, ""))
    except (psutil.Error, OSError):  # gone, a zombie, or of another user
        return ""


def stop(state: Path, grace: float = GRACE) -> int:
    """Stop every process of `state`: ask the topmost to end, after `grace` seconds kill all. Returns how many ran."""
    found = belonging_to(state)
    ids = {process.pid for process in found}
    for process in found:
        if _parent_id(process) not in ids:
            _send(process, kill=False)
    _wait(found, grace)
    deadline = time.monotonic() + _KILLED
    # Looked up again each time, for a worker may just have been respawned.
    while (left := belonging_to(state)) and time.monotonic() < deadline:
        for process in left:
            _send(process, kill=True)
        _wait(left, 0.5)
    return len(found)


def _wait(found: list[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(alive, found)) and time.monotonic() < deadline:
        time.sleep(0.05)


def alive(process: psutil.Process) -> bool:
    """Whether `process` runs; a zombie, which nobody may ever bury in a container, does not."""
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
    except psutil.Error:  # ended meanwhile
        pass
