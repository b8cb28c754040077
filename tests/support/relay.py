"""A stretch of network between two processes, which can be cut."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path


class Relay:
    """Hands the bytes of connections on to another socket of this machine.

    Args:
        at: Where it listens.
        to: Where it connects to.
    """

    def __init__(self, at: Path, to: Path) -> None:
        self._to = to
        self._whole = threading.Event()  # while it is not set, nothing gets through
        self._whole.set()
        self._up = True
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.fspath(at))
        self._listener.listen(64)
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def swallow(self) -> None:
        """Connections stay, and say nothing any more."""
        self._whole.clear()

    def hang_up(self) -> None:
        """Ends all connections, and takes none."""
        self._up = False
        with self._lock:
            ended = list(self._open)
        for each in ended:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._up = True
        self._whole.set()

    def close(self) -> None:
        self.hang_up()
        self._whole.set()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                caller, _ = self._listener.accept()
                if not self._up:
                    caller.close()
                    continue
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(os.fspath(self._to))
                except OSError:  # the server is away
                    caller.close()
                    server.close()
                    continue
                for one, other in ((caller, server), (server, caller)):
                    threading.Thread(target=self._hand_on, args=(one, other), daemon=True).start()

    def _hand_on(self, source: socket.socket, sink: socket.socket) -> None:
        with self._lock:
            self._open.add(source)
        try:
            with suppress(OSError):
                while some := source.recv(65536):
                    self._whole.wait()
                    sink.sendall(some)
            for each in (source, sink):  # the thread of the other way ends, too
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        finally:
            with self._lock:
                self._open.discard(source)
            source.close()
