"""The state folder: who may start services in it, what is recorded there, and clearing up after a crash."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ouzel.errors import FailedPrecondition
from ouzel.serving import processes
from ouzel.serving.errors import AlreadyRunning
from ouzel.torchserve import log
from ouzel_protos.local import (
    GATEWAY,
    OPTIONS,
    SERVING,
    SUPERVISOR,
    WORKER,
    Gateway,
    Serving,
    Worker,
    read_gateway,
    read_serving,
    read_worker,
)

LOG = log.FILE  # stays when the services stop; of the present or else the last run
CONSOLE = "console.log"  # of the Java runtime itself, in the run's folder
_LOCK = "lock"
_RUNS = "ouzel-run-"  # everything with this prefix is removed, in whatever folder is chosen
_SOCKET = ".ts.sock.90000"
_LONGEST_SOCKET = 103  # bytes; macOS has the shortest limit on the path of a Unix socket


def prepare(state: Path) -> None:
    """Makes the folder, mode 0700. Raises FailedPrecondition if it belongs to another user."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if state.stat().st_uid != os.getuid():
        raise FailedPrecondition(f"the state folder {state} belongs to another user; choose one with --state")


@contextlib.contextmanager
def locked(state: Path) -> Iterator[IO[bytes]]:
    """Holds the right to start services in a state folder.

    The lock lives as long as a process has the yielded file open: the one that supervises the services. Once that was
    killed the lock is free, whatever it left behind.

    Args:
        state: The state folder.

    Raises:
        AlreadyRunning: Another process holds it.
    """
    with (state / _LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(_holder(state)) from None
        yield lock


def wait_unlocked(state: Path, seconds: float = 5.0) -> None:
    """Gives the command whose services were stopped the time to end, so that the next one can start."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with locked(state):
                return
        except AlreadyRunning:
            time.sleep(0.05)


def _holder(state: Path) -> str:
    if serving := running(state):
        return f"already running at {serving['grpc']} (gRPC) and {serving['rest']}, process {serving['pid']}"
    return f"another `ouzel up` is starting or stopping services with the state folder {state}"


def running(state: Path) -> Serving | None:
    """The TorchServe that runs in a state folder, or None. A record whose process is gone counts as nothing."""
    serving = read_serving(state)
    if serving is None:
        return None
    return serving if processes.find(serving["pid"], serving["create_time"]) else None


def running_worker(state: Path) -> Worker | None:
    """The worker that runs with a state folder, or None."""
    worker = read_worker(state)
    return worker if worker is not None and processes.find(worker["pid"], worker["create_time"]) else None


def running_gateway(state: Path) -> Gateway | None:
    """The gateway that `ouzel up` started with a state folder, or None."""
    gateway = read_gateway(state)
    return gateway if gateway is not None and processes.find(gateway["pid"], gateway["create_time"]) else None


def new_run(state: Path) -> Path:
    """Makes a private folder for one run. Raises FailedPrecondition if its path is too long."""
    if len(os.fsencode(state / f"{_RUNS}12345678" / _SOCKET)) > _LONGEST_SOCKET:
        raise FailedPrecondition(f"the path of the state folder is too long for Unix sockets: {state}")
    return Path(tempfile.mkdtemp(prefix=_RUNS, dir=state))


def record(state: Path, serving: Serving) -> None:
    """Writes `serving.json`: clients find the services from now on."""
    write(state, SERVING, serving)


def write(state: Path, name: str, content: Any) -> None:
    """Writes a JSON file of the state folder, mode 0600, whole or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=_RUNS, dir=state)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
    Path(temporary).replace(state / name)


def read(state: Path, name: str) -> dict[str, Any] | None:
    """Reads a JSON file of the state folder; None if it is missing or cannot be read."""
    try:
        content = json.loads((state / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def clear_torchserve(state: Path) -> bool:
    """Removes what a TorchServe that died or hangs has left, so that another one can start. The worker stays.

    Args:
        state: The state folder.

    Returns:
        Whether anything of it ran.
    """
    (state / SERVING).unlink(missing_ok=True)  # it is no more, and with it go its tokens
    ran = processes.stop(state, 0, processes.TORCHSERVE)
    for left in state.glob(f"{_RUNS}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
    return ran > 0


def clear(state: Path, *, grace: float = processes.GRACE) -> bool:
    """Stops all that runs in a state folder, the gateway first, and removes what it left, except the logs.

    Args:
        state: The state folder.
        grace: Time until processes are killed, in seconds: the gateway, then the others.

    Returns:
        Whether anything ran.
    """
    drained = processes.stop(state, grace, processes.GATEWAY)  # first, while what its calls ask is still there
    (state / SERVING).unlink(missing_ok=True)
    stopped = drained + processes.stop(state, grace)
    for left in state.glob(f"{_RUNS}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    for name in (SUPERVISOR, OPTIONS, GATEWAY):
        (state / name).unlink(missing_ok=True)
    if running_worker(state) is None:  # one that `ouzel-worker` started goes on
        (state / WORKER).unlink(missing_ok=True)
    return stopped > 0
