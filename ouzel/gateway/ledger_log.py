"""The log that is read at the door: opened when somebody asks, in threads of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TypeVar

from ouzel.errors import FailedPrecondition
from ouzel.ledger import Ledger, open_ledger
from ouzel.ledger.settings import existing

T = TypeVar("T")
_THREADS = 2  # a storage that is slow takes none of the others


class Log:
    """Reads the log.

    Args:
        find: Its folder; None while there is no log.
    """

    def __init__(self, find: Callable[[], Path | None]) -> None:
        self._find = find
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="log")
        self._lock = Lock()
        self._ledger: Ledger | None = None

    async def read(self, work: Callable[[Ledger], T]) -> T:
        """The outcome of some work with the log.

        Raises:
            FailedPrecondition: No log is kept here.
            OuzelError: What the work raises.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(self._opened()))

    async def close(self) -> None:
        """Closes it, after what is under way."""
        await asyncio.to_thread(self._threads.shutdown)
        if self._ledger is not None:
            await asyncio.to_thread(self._ledger.close)

    def _opened(self) -> Ledger:
        with self._lock:
            if self._ledger is None:
                folder = self._find()
                if folder is None:
                    raise FailedPrecondition("no log is kept here")
                self._ledger = open_ledger(existing(folder), publish=False, check=False)
            return self._ledger
