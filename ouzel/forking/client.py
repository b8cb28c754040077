"""Having processes forked: the end of the one that wants them."""

from __future__ import annotations

import logging
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from ouzel.forking import child
from ouzel.forking.request import receive, send

_log = logging.getLogger(__name__)
_MODULE = "ouzel.forking.server"
_PATIENCE = 5.0  # s for an answer, which takes some hundredths: who waits has others to look after
_POLL = 0.01  # s
_ATTEMPTS = 3  # in a row to have libraries imported


class ServerLost(Exception):
    """The process that forks is gone, or does not answer."""


class _Server:
    """The process that forks, as long as it lives."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self.warm, self.refusal = False, ""
        self._socket, other = socket.socketpair()  # closed with this object, should it come to nothing
        self._socket.settimeout(_PATIENCE)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(other.fileno()), *modules],
                pass_fds=[other.fileno()],
                env=os.environ | child.ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # else Ctrl-C, which is for who asks, would end it
            )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def look(self) -> None:
        """Note whether it is warm by now, or must not fork."""
        with self._lock, suppress(ServerLost):
            if self.warm or self._socket.fileno() < 0:
                return
            said = select.poll()
            said.register(self._socket, select.POLLIN)
            if said.poll(0):
                self.refusal = self._talk().get("error", "")
                self.warm = not self.refusal

    def ask(self, message: Mapping[str, Any], files: Sequence[int] = ()) -> dict[str, Any]:
        """Raises ServerLost."""
        with self._lock:
            return self._talk(message, files)

    def end(self) -> None:
        with self._lock:
            self._end()

    def _talk(self, message: Mapping[str, Any] | None = None, files: Sequence[int] = ()) -> dict[str, Any]:
        try:
            if message is not None:
                send(self._socket, message, files)
            return receive(self._socket)[0]
        except (OSError, EOFError, ValueError, struct.error) as error:
            self._end()
            raise ServerLost("the process that forks is gone, or does not answer") from error

    def _end(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


class Forked:
    """A process that was forked, in a process group of its own.

    Args:
        server: Has forked it.
        pid: Its id. It is not given away before `code` has said how the process ended.
        stdin: A pipe to its standard input, to be closed by whoever has it.
    """

    def __init__(self, server: _Server, pid: int, stdin: IO[bytes]) -> None:
        self.pid, self.stdin = pid, stdin
        self._server = server
        self._code: int | None = None

    def code(self) -> int | None:
        """Exit status, negative for a signal; None while it runs. What is left of its group when it ended is killed.

        Raises:
            ServerLost: Nobody knows. If it has ended, its id may have been given away.
        """
        return self._ask(kill=False)

    def kill(self) -> None:
        """Ends it and its group. If its parent is gone, it is left to end with its input."""
        try:
            self._ask(kill=True)
        except ServerLost:
            self.stdin.close()

    def wait(self) -> None:
        """Waits until it has ended, or nobody knows whether it has."""
        with suppress(ServerLost):
            while self.code() is None:
                time.sleep(_POLL)

    def _ask(self, *, kill: bool) -> int | None:
        if self._code is None:
            answer = self._server.ask({"wait": self.pid, "kill": kill})
            if "lost" in answer:
                raise ServerLost(f"nothing is known of process {self.pid}")
            self._code = answer["code"]
        return self._code


class ForkServer:
    """Has processes forked from one that has imported their libraries, where and when that can be done.

    Any thread may call any method. Nothing is started before one is called.

    Args:
        modules: What is imported beforehand.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = tuple(modules)
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._failed = 0
        self._over = not child.supported()

    def warm(self) -> bool:
        """Starts the process that forks, or one in place of a lost one. Does not wait.

        Returns:
            Whether it has imported everything, and would fork.
        """
        with self._lock:
            return self._warm() is not None

    def wait(self, seconds: float) -> bool:
        """Waits until `warm` is True, or will never be.

        Args:
            seconds: How long at most.
        """
        deadline = time.monotonic() + seconds
        while not self.warm() and not self._over and time.monotonic() < deadline:
            time.sleep(_POLL)
        return self.warm()

    def fork(
        self, module: str, *arguments: str, environment: Mapping[str, str], stdout: int, stderr: int
    ) -> Forked | None:
        """Has a process forked that does what `python -m MODULE ARGUMENT...` does, in a session of its own.

        Args:
            module: It is imported, and its function `main` is called.
            arguments: Are `sys.argv[1:]`.
            environment: All variables of the process.
            stdout: File descriptor of its standard output.
            stderr: Of its standard error.

        Returns:
            The process; None if there is none, and it must be started in another way.

        Raises:
            ServerLost: It is not known whether there is a process. If so, its input has ended.
        """
        with self._lock:
            if (server := self._warm()) is None:
                return None
            message = {"words": [module, *arguments], "environment": dict(environment), "folder": os.getcwd()}
            reading, writing = os.pipe()
            stdin = os.fdopen(writing, "wb", buffering=0)
            forked: Forked | None = None
            try:
                answer = server.ask(message, (reading, stdout, stderr))
                if "pid" in answer:
                    forked = Forked(server, answer["pid"], stdin)
                else:
                    _log.warning("%s cannot be forked: %s", module, answer["error"])
            except ServerLost as error:
                self._warm()
                if isinstance(error.__cause__, TimeoutError):
                    raise
                # Else the connection has ended, which a child that had not answered would have kept open.
            finally:
                os.close(reading)
                if forked is None:
                    stdin.close()
            return forked

    def close(self) -> None:
        """Ends the process that forks. Those that it has forked go on as long as their input does."""
        with self._lock:
            self._over = True
            if self._server is not None:
                self._server.end()

    def _warm(self) -> _Server | None:
        if self._over:
            return None
        if (server := self._server) is not None:
            server.look()
            if server.alive and not server.refusal:
                return server if server.warm else None
            server.end()
            self._server, self._failed = None, 0 if server.warm else self._failed + 1
            if server.refusal or self._failed == _ATTEMPTS:
                self._give_up(server.refusal or f"has ended {_ATTEMPTS} times before it was ready")
                return None
            _log.warning("the process that forks was lost; another is started")
        try:
            self._server = _Server(self._modules)
        except OSError as error:
            self._give_up(f"cannot be started ({error})")
        return None

    def _give_up(self, reason: str) -> None:
        self._over = True
        _log.warning(
            "processes are started one by one, which takes seconds each, and not forked: the process that would fork "
            "them %s",
            reason,
        )
