"""A process that has imported libraries, and forks for the one that has started it.

It answers one question at a time: for a process, and how a process has ended. Until it is asked that, the id of a
process that has ended is not given away. It ends when the other end of its socket is closed, whatever closed it. Those
that it has forked are not concerned by that: they end with whoever holds the other end of their standard input, if they
choose to (see `client`).

Usage: python -m ouzel.forking.server SOCKET MODULE..., where SOCKET is the file descriptor of a connected socket.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ouzel.forking import child
from ouzel.forking.request import Request, close, receive, send

NAME = "ouzel-forks"


def main(connected: int, modules: Sequence[str]) -> None:
    """Forks processes for who holds the other end of the socket `connected`, once `modules` are imported."""
    child.name(NAME)
    # Who asks is stopped in order, and still needs it. Blocked, not ignored: a child that is not yet ready to be
    # stopped will be, once it is.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with socket.socket(fileno=connected) as connection:
        with _ending_with(connection):
            child.preload(modules)
        if reason := child.unfit():
            send(connection, {"error": reason})
            os._exit(1)
        send(connection, {"ready": True})
        request = _serve(connection)
    if request is None:
        os._exit(0)  # what libraries do at their end takes long, and there is nothing to end
    _run(request)


@contextmanager
def _ending_with(connection: socket.socket) -> Iterator[None]:
    """Ends this process at once if the other end is closed, though nobody looks at it."""
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC)  # SIGIO, which ends a process
    yield
    fcntl.fcntl(connection, fcntl.F_SETFL, flags)


def _serve(connection: socket.socket) -> Request | None:
    """Returns in each child what it is to be, and None in the server once nobody can ask any more."""
    while True:
        try:
            message, files = receive(connection)
        except (EOFError, OSError):
            return None
        if "wait" in message:
            send(connection, _ended(message["wait"], kill=message["kill"]))
            continue
        try:
            pid = os.fork()
        except OSError as error:
            send(connection, {"error": str(error)})
            pid = -1
        if pid == 0:
            os.setsid()
            # The child answers: what is killed from now on is the whole group. And if the connection ends without an
            # answer, there is no child.
            send(connection, {"pid": os.getpid()})
            return Request.of(message, files)
        close(files)


def ended(pid: int) -> bool:
    """Whether a child has ended. If so, the rest of its group is killed.

    It is not waited for: until it is, its id is not given away, and the group is its own.
    """
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        return False
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    return True


def _ended(pid: int, *, kill: bool) -> dict[str, Any]:
    try:
        if kill and not ended(pid):
            os.killpg(pid, signal.SIGKILL)
        return {"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if ended(pid) else None}
    except ChildProcessError:  # not one of this process, or waited for already
        return {"lost": True}


def _run(request: Request) -> None:
    """What `python -m` would, with a module that was imported before: its function `main`."""
    child.become(request, request.words[0].rpartition(".")[2])
    child.show([sys.executable, "-m", *request.words])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    child.end(importlib.import_module(request.words[0]).main)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
