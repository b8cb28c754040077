"""A process that has imported torch and forks TorchServe's workers.

Each worker starts at once, and all share the memory of what was imported, hundreds of MiB.

The process imports and runs nothing that starts a thread or touches a GPU: a child inherits neither in a usable state.
It ends when its standard input does, whose other end TorchServe's Java process holds open. Its children end with it,
and each with the process that asked for it (see `shim`). Linux only.

Usage: python -m ouzel.serving.forking.zygote LISTENER MODULE..., where LISTENER is the file descriptor of a listening
socket.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence

from ouzel.forking import child
from ouzel.forking.request import Request, close, receive
from ouzel.serving.forking.shim import STATUS

_PATIENCE = 10.0  # s for a request to arrive whole
NAME, WORKER_NAME = "ouzel-zygote", "ouzel-model"  # as `top` shows them, of at most 15 bytes


def main(listening: int, modules: Sequence[str]) -> None:
    """Forks workers for processes that connect to the socket `listening`, once `modules` are imported."""
    child.name(NAME)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # TorchServe is asked to stop as well, and still needs its workers
    with socket.socket(fileno=listening) as listener:
        child.preload(modules)
        request = _serve(listener)
    if request is not None:
        _become(request)


def _serve(listener: socket.socket) -> Request | None:
    """Returns in each child what it is to be, and None in the zygote once TorchServe is gone."""
    zygote = os.getpid()
    children: dict[int, socket.socket] = {}  # by process id: who asked for it
    known: set[tuple[str, ...]] = set()  # the words of each, which name its own socket: who asks again has lost it
    ended, wake = socket.socketpair()
    for end in (ended, wake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    with selectors.DefaultSelector() as selector:
        for source in (listener, ended, sys.stdin):
            selector.register(source, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if sys.stdin in ready:
                _kill(children)
                return None
            _kill({pid: client for pid, client in children.items() if client in ready})
            if ended in ready:
                ended.recv(4096)
            _bury(children, selector)
            if listener not in ready:
                continue
            client, request = _accept(listener)
            if request is None:
                client.close()
                continue
            words = tuple(request.words)
            if words in known:
                request.environment[child.AGAIN] = "1"
            known.add(words)
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                for held in (client, ended, wake, *children.values()):
                    held.close()
                return None if child.orphaned(zygote) else request
            children[pid] = client
            selector.register(client, selectors.EVENT_READ)
            close(request.files)


def _kill(children: Mapping[int, socket.socket]) -> None:
    """Of those that asked for them nothing more comes: they have ended, or were killed."""
    for pid in children:
        os.kill(pid, signal.SIGKILL)  # not yet waited for, so that it is still this process


def _accept(listener: socket.socket) -> tuple[socket.socket, Request | None]:
    client, _ = listener.accept()
    client.settimeout(_PATIENCE)
    try:
        return client, Request.of(*receive(client))
    except (OSError, EOFError, ValueError, KeyError, struct.error):
        return client, None


def _bury(children: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    """Tell who asked for a child that it has ended."""
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            continue
        client = children.pop(pid)
        selector.unregister(client)
        with contextlib.suppress(OSError):
            code = os.waitstatus_to_exitcode(status)
            client.sendall(STATUS.pack(code if code >= 0 else 128 - code))
        client.close()


def _become(request: Request) -> None:
    """Run the worker in this process, as the interpreter would have."""
    child.become(request, WORKER_NAME)
    script = request.words[0]
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
