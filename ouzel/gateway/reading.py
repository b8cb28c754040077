"""Threads that read requests and write answers, apart from those that the rest of the gateway waits for.

Each tenant has a few of them at most, so that nobody's bodies keep others from being read. What has begun goes on to
its end: what is read there is bounded beforehand, so that this takes less than a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ouzel.errors import Unavailable

T = TypeVar("T")
_THREADS = 4
_OF_A_TENANT = 2


@dataclass
class _Share:
    """Of a tenant.

    Attributes:
        room: For what may run at a time.
        users: That run, or wait for it.
    """

    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_OF_A_TENANT))
    users: int = 0


class Reading:
    """The threads. Used by one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ouzel-reading")
        self._shares: dict[str, _Share] = {}

    async def run(self, tenant: str, function: Callable[..., T], *args: Any) -> T:
        """The result of some work, which may wait for other work of the same tenant.

        A caller who is cancelled takes along what has not begun.

        Args:
            tenant: Whose it is.
            function: Takes less than a second.
            args: Of the function.

        Raises:
            Unavailable: The gateway has stopped.
        """
        share = self._shares.setdefault(tenant, _Share())
        share.users += 1
        try:
            await share.room.acquire()
        except BaseException:
            self._left(tenant, share)
            raise
        loop = asyncio.get_running_loop()

        def ended(_: object) -> None:  # in the thread, or here if it is cancelled before it begins
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._ended, tenant, share)

        try:
            future = self._threads.submit(copy_context().run, function, *args)
        except RuntimeError:
            self._ended(tenant, share)
            raise Unavailable("the gateway is stopping") from None
        future.add_done_callback(ended)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, tenant: str, share: _Share) -> None:
        share.room.release()
        self._left(tenant, share)

    def _left(self, tenant: str, share: _Share) -> None:
        share.users -= 1
        if not share.users:
            self._shares.pop(tenant, None)
