"""Which calls may have been lost with a model process, while they are under way.

TorchServe may hand a request to a process in the moment in which that dies, and then tells nobody: the request waits
until its caller gives up. So calls that take long are told when the processes of their model are others than before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc.aio

from ouzel.errors import OuzelError

_log = logging.getLogger(__name__)
_LOOK = 0.25  # s between two looks, and for which a call is too young to be worth one
_TWICE = 2  # processes that die during one call

Key = tuple[str, str]
Processes = Callable[[str, str], frozenset[int] | None]


@dataclass(frozen=True)
class Seen:
    """The processes of a model.

    Attributes:
        ids: Of those that were ready.
        at: When that was asked, on the clock of `time.monotonic`.
    """

    ids: frozenset[int]
    at: float


class Watched:
    """One call, which may be made several times.

    Args:
        began: On the clock of `time.monotonic`.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self._died: set[int] = set()
        self._changed = False
        self._woken: asyncio.Future[None] | None = None

    @property
    def died_twice(self) -> bool:
        """Whether two processes of the model have died since the call began."""
        return len(self._died) >= _TWICE

    def change(self, died: frozenset[int]) -> None:
        """The processes are others than before: those have died, or others have come."""
        self._died |= died
        self._changed = True
        self._wake()

    async def until(self, *attempts: grpc.aio.Call) -> None:
        """Returns when one of the attempts has ended, or once after a change."""
        if self._changed or any(each.done() for each in attempts):
            self._changed = False
            return
        self._woken = asyncio.get_running_loop().create_future()
        for each in attempts:
            each.add_done_callback(self._wake)
        try:
            await self._woken
        finally:
            self._woken = None
        self._changed = False

    def _wake(self, *_: object) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


class ProcessWatch:
    """Looks at the processes of models as long as calls of them are under way that have taken a while.

    Args:
        processes: Ids of those of a model and version that are ready; None if that cannot be told. It may block.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._calls: dict[Key, dict[Watched, None]] = {}  # the oldest first
        self._seen: dict[Key, Seen] = {}
        self._looking: dict[Key, asyncio.Task[None]] = {}

    def close(self) -> None:
        """Ends all looks."""
        for task in self._looking.values():
            task.cancel()

    @contextmanager
    def call(self, model: str, version: str) -> Iterator[Watched]:
        """Watches for a call, as long as the context is open."""
        key, watched = (model, version), Watched(time.monotonic())
        calls = self._calls.setdefault(key, {})
        calls[watched] = None
        if key not in self._looking:
            self._looking[key] = asyncio.create_task(self._look(key))
        try:
            yield watched
        finally:
            del calls[watched]

    async def _look(self, key: Key) -> None:
        """Goes on as long as there are calls."""
        try:
            if key not in self._seen:
                await self._compare(key)
            while self._calls[key]:
                await asyncio.sleep(_LOOK)
                oldest = next(iter(self._calls[key]), None)
                if oldest is not None and time.monotonic() - oldest.began >= _LOOK:
                    await self._compare(key)
        finally:
            del self._looking[key]
            if not self._calls[key]:
                del self._calls[key]

    async def _compare(self, key: Key) -> None:
        now, ids = time.monotonic(), None
        try:
            ids = await asyncio.to_thread(self._processes, *key)
        except (OuzelError, ValueError, KeyError, TypeError) as error:  # calls may be answered nevertheless
            _log.info("TorchServe does not tell the processes of %s %s: %s", *key, error)
        if ids is None:
            return
        before = self._seen.get(key)
        self._seen[key] = Seen(ids, now)
        if before is None or before.ids == ids:
            return
        died = before.ids - ids
        _log.warning("%s %s: %d processes died or were stopped, %d came", *key, len(died), len(ids - before.ids))
        for watched in self._calls[key]:
            if watched.began < now:  # later ones go to those that are there
                # Of those that died since an old look, some may have died before the call.
                watched.change(died if watched.began < before.at else frozenset())
