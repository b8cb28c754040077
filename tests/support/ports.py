"""Ports for servers of other projects, which have to be told theirs before they start."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import TextIO

PORTS = range(22_000, 32_000)  # below those that the system gives away, above those that Ray's workers take

_claims: list[TextIO] = []  # open files: the system drops a process's locks when it closes them, or ends


def free_ports(count: int) -> list[int]:
    """Ports that this process keeps until it ends.

    To look whether a port is free is not enough: what two test processes start at the same time would both find it so,
    and one of them would then talk to the other's server.

    Raises:
        AssertionError: There are not as many.
    """
    folder = Path(tempfile.gettempdir()) / f"ouzel-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    ports: list[int] = []
    for port in PORTS:
        if len(ports) == count:
            break
        if _claim(folder / str(port)) and _is_free(port):
            ports.append(port)
    assert len(ports) == count, "no free ports"
    return ports


def service_ports() -> dict[str, str]:
    """Variables with ports for `ouzel up`. What `Ports.free` finds free, another process may have by the time."""
    from ouzel.serving import Ports

    names = [each.name for each in fields(Ports)]
    return {f"OUZEL_{name.upper()}_PORT": str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}


def _claim(file: Path) -> bool:
    claim = file.open("w")
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
