"""Ends connections whose server is silent: paused, or beyond a network that swallows packets.

The server's own limits of time do not help then, and a thread that waits for a socket waits without end.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass
class Watched:
    """A connection that is in use.

    Attributes:
        descriptor: Of its socket.
        deadline: On the monotonic clock.
        ended: Whether it was ended, because its server was silent.
    """

    descriptor: int
    deadline: float
    ended: bool = False


class SilenceWatch:
    """Looks after connections in a thread of its own, which runs while there is something to watch.

    Args:
        seconds: That the use of a connection may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._watched: dict[int, Watched] = {}
        self._changed = threading.Condition()
        self._running = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, descriptor: int) -> Iterator[Watched]:
        """Watches a connection while it is used.

        Args:
            descriptor: Of its socket, which the caller closes afterwards at the earliest.
        """
        one = Watched(descriptor, time.monotonic() + self._seconds)
        with self._changed:
            self._watched[id(one)] = one
            if not self._running:
                self._running = True
                self._thread = threading.Thread(target=self._run, name="ouzel-database-silence", daemon=True)
                self._thread.start()
        try:
            yield one
        finally:
            with self._changed:
                del self._watched[id(one)]
                if not self._watched:
                    self._changed.notify()

    def close(self) -> None:
        """Waits for the thread, which ends once nothing is watched."""
        if (thread := self._thread) is not None and not self._watched:
            thread.join()

    def _run(self) -> None:
        with self._changed:
            while self._watched:
                now = time.monotonic()
                for one in self._watched.values():
                    if not one.ended and one.deadline <= now:
                        one.ended = True
                        _shut_down(one.descriptor)
                waiting = [one.deadline for one in self._watched.values() if not one.ended]
                self._changed.wait(min(waiting) - now if waiting else None)
            self._running = False


def _shut_down(descriptor: int) -> None:
    """Whoever waits for the socket sees its end. The descriptor stays the connection's."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as other:
        other.shutdown(socket.SHUT_RDWR)
