"""Messages between the process that searches and those that compute trials, over a connection of `multiprocessing`.

Neither side ever waits for the other: one thread writes what is to be sent, another one hears.
"""

from __future__ import annotations

import logging
import pickle
import queue
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

_log = logging.getLogger(__name__)
_JOIN = 5.0  # s


class Channel:
    """One end. Only for processes that trust each other: whoever sends says what runs at the other end.

    Args:
        connection: To the other end; it belongs to the channel from now on.
        heard: Is called in a thread of the channel with each message.
        ended: Is called there when the other end is gone, or this one was closed.
    """

    def __init__(self, connection: Connection, heard: Callable[[Any], None], ended: Callable[[], None]) -> None:
        self._connection, self._heard, self._ended = connection, heard, ended
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._write, self._read)]
        for each in self._threads:
            each.start()

    def send(self, message: Any) -> None:
        """Sends a message, or what `packed` made of it, some time later. Nothing happens if the other end is gone."""
        self._waiting.put(message if isinstance(message, bytes) else packed(message))

    def close(self) -> None:
        """Ends it at both ends."""
        with suppress(OSError), socket.socket(fileno=self._connection.fileno()) as shared:
            try:
                shared.shutdown(socket.SHUT_RDWR)  # wakes the threads, which closing alone would not
            finally:
                shared.detach()
        self._waiting.put(None)
        for each in self._threads:
            each.join(_JOIN)
        self._connection.close()

    def _write(self) -> None:
        with suppress(OSError, ValueError):
            while (message := self._waiting.get()) is not None:
                self._connection.send_bytes(message)

    def _read(self) -> None:
        try:
            while True:
                self._heard(pickle.loads(self._connection.recv_bytes()))
        except (OSError, EOFError):
            pass
        except Exception:  # noqa: BLE001 - whatever it is: who hears nothing any more must not be waited for
            _log.exception("a message could not be read; the connection ends")
        self._ended()


def packed(message: Any) -> bytes:
    """A message as bytes. Raises what pickle does."""
    return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
