"""Work that several threads want: one does it, the others wait for what it gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Threads share it."""

    def __init__(self) -> None:
        self._running: dict[Hashable, Future[T]] = {}
        self._lock = threading.Lock()

    def do(self, key: Hashable, work: Callable[[], T]) -> T:
        """What the work gives, or raises: of the one that runs for this key already, else of this one."""
        with self._lock:
            future = self._running.get(key)
            mine = future is None
            if future is None:
                future = self._running[key] = Future()
        if not mine:
            return future.result()
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - all who wait hear it
            future.set_exception(error)
        finally:
            with self._lock:
                del self._running[key]
        return future.result()
