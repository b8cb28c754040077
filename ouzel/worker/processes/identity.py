"""Names of processes that outlive them: host, process id, and when it was started, in ticks since the machine was."""

from __future__ import annotations

import socket
from functools import cache
from pathlib import Path

import psutil


@cache
def host() -> str:
    """This machine since it was started, or the container in it: process ids are unique within."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
        space = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        boot = space = ""
    return ":".join((socket.gethostname(), boot, space))


def name(pid: int) -> str:
    """Name of a process of this machine. Raises psutil.NoSuchProcess."""
    return f"{host()}/{pid}/{_started(pid)}"


def find(named: str) -> psutil.Process | None:
    """Finds a process by its name.

    Args:
        named: What `name` gave.

    Returns:
        The process; None if it has ended.

    Raises:
        LookupError: It is a process of another machine.
    """
    where, _, rest = named.partition("/")
    pid, _, started = rest.partition("/")
    if where != host() or not pid.isdecimal():
        raise LookupError(named)
    try:
        process = psutil.Process(int(pid))
        return process if _started(int(pid)) == started and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def is_dead(named: str) -> bool:
    """Whether the process of this name has ended for sure."""
    try:
        return find(named) is None
    except LookupError:
        return False


def _started(pid: int) -> str:
    """No time of day, which changes when the clock is set."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return f"{psutil.Process(pid).create_time():.2f}"
    except ProcessLookupError:
        raise psutil.NoSuchProcess(pid) from None
