"""Calls that are under way, so that stopping can wait for them, and ends those that outlast its patience."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ouzel.errors import Unavailable

T = TypeVar("T")


class UnderWay:
    """Counts calls. Used by one event loop.

    Attributes:
        count: Of the calls that are being answered.
        draining: Whether new ones are refused.
    """

    def __init__(self) -> None:
        self.count = 0
        self.draining = False
        self._interruptible: set[asyncio.Task[Any]] = set()
        self._idle, self._interrupted = asyncio.Event(), asyncio.Event()
        self._idle.set()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Counts one."""
        self.count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._idle.set()

    async def finish(self, grace: float, hurry: asyncio.Event) -> None:
        """Returns when no call is under way. After some seconds, or in a hurry, those that are have been ended."""
        waits = [asyncio.ensure_future(each.wait()) for each in (self._idle, hurry)]
        await asyncio.wait(waits, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        if self.count:
            self.interrupt()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """The task of a call that `interrupt` may end: it then raises Unavailable, for which there still is time."""
        task = asyncio.current_task()
        assert task is not None
        self._interruptible.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task in self._interruptible:
                raise
            task.uncancel()
            raise _stopping() from None
        finally:
            self._interruptible.discard(task)

    async def uninterrupted(self, work: Awaitable[T]) -> T:
        """The outcome of some work of an answer that has begun.

        Raises:
            Unavailable: `interrupt` came first, and the work was called off: whoever answers still can say so.
        """
        task, interrupted = asyncio.ensure_future(work), asyncio.ensure_future(self._interrupted.wait())
        try:
            await asyncio.wait((task, interrupted), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise _stopping()
            return task.result()
        finally:
            interrupted.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))

    def interrupt(self) -> None:
        """Ends the calls that are still under way."""
        self._interrupted.set()
        tasks, self._interruptible = self._interruptible, set()
        for task in tasks:
            task.cancel()


def _stopping() -> Unavailable:
    return Unavailable("the gateway is stopping, and the answer took too long")
