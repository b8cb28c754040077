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
import ctypes
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ouzel.serving.forking.shim import HEAD, STATUS

_PATIENCE = 10.0  # s for a request to arrive whole
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
NAME, WORKER_NAME = "ouzel-zygote", "ouzel-model"  # as `top` shows them, of at most 15 bytes


@dataclass(frozen=True)
class _Request:
    """A worker that is wanted. words: script and arguments. files: standard input, output and error."""

    words: list[str]
    environment: dict[str, str]
    folder: str
    files: list[int]


def main(listening: int, modules: Sequence[str]) -> None:
    """Forks workers for processes that connect to the socket `listening`, once `modules` are imported."""
    _prctl(_PR_SET_NAME, NAME.encode())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # TorchServe is asked to stop as well, and still needs its workers
    with socket.socket(fileno=listening) as listener:
        for module in modules:
            try:
                importlib.import_module(module)
            except Exception as error:  # noqa: BLE001 - workers meet it too, and their errors are read
                sys.stderr.write(f"{module} cannot be imported: {error}\n")
        gc.collect()
        gc.freeze()  # else each child's first collection would write to, and so copy, what all share
        request = _serve(listener)
    if request is not None:
        _become(request)


def _serve(listener: socket.socket) -> _Request | None:
    """Returns in each child what it is to be, and None in the zygote once TorchServe is gone."""
    zygote = os.getpid()
    children: dict[int, socket.socket] = {}  # by process id: who asked for it
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
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                for held in (client, ended, wake, *children.values()):
                    held.close()
                return None if _orphaned(zygote) else request
            children[pid] = client
            selector.register(client, selectors.EVENT_READ)
            for file in request.files:
                os.close(file)


def _kill(children: Mapping[int, socket.socket]) -> None:
    """Of those that asked for them nothing more comes: they have ended, or were killed."""
    for pid in children:
        os.kill(pid, signal.SIGKILL)  # not yet waited for, so that it is still this process


def _accept(listener: socket.socket) -> tuple[socket.socket, _Request | None]:
    client, _ = listener.accept()
    files: list[int] = []
    try:
        client.settimeout(_PATIENCE)
        head, files, _, _ = socket.recv_fds(client, HEAD.size, 3)
        (left,) = HEAD.unpack(head)
        body = bytearray()
        while len(body) < left:
            if not (part := client.recv(left - len(body))):
                raise EOFError
            body += part
        asked: dict[str, Any] = json.loads(bytes(body))
        return client, _Request(asked["words"], asked["environment"], asked["folder"], files)
    except (OSError, EOFError, ValueError, KeyError, struct.error):
        for file in files:
            os.close(file)
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


def _orphaned(parent: int) -> bool:
    """Have the kernel end this process with the zygote; whether that is gone already."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    return os.getppid() != parent


def _prctl(option: int, value: int | bytes) -> None:
    ctypes.CDLL(None).prctl(option, value)


def _become(request: _Request) -> None:
    """Run the worker in this process, as the interpreter would have."""
    _prctl(_PR_SET_NAME, WORKER_NAME.encode())
    for number, file in enumerate(request.files):
        os.dup2(file, number)
        os.close(file)
    for each in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(each, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    sys.stdin, sys.stdout, sys.stderr = open(0, encoding="utf-8"), _written(1), _written(2)  # noqa: SIM115
    sys.argv = list(request.words)
    script = request.words[0]
    given = [each for each in request.environment.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.path[:0] = [os.path.dirname(script), *given]
    runpy.run_path(script, run_name="__main__")


def _written(file: int) -> io.TextIOWrapper:
    """Writes as an interpreter does that does not buffer."""
    return io.TextIOWrapper(io.FileIO(file, "w", closefd=False), "utf-8", "backslashreplace", write_through=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
