"""Which calls may have been lost with a model process, while they are under way.

TorchServe may hand a request to a process in the moment in which that dies, and then tells nobody: the request waits
until its caller gives up. So calls that take long are told when the processes of their model are others than before.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc.aio

from ouzel.errors import OuzelError, Unavailable

_log = logging.getLogger(__name__)
_LOOK = 0.25  # s between two looks, and for which a call is too young to be worth one
_AT_A_TIME = 8  # calls that are told, of a model: those that were lost are the oldest, others only fill the queue

Key = tuple[str, str]
Processes = Callable[[str, str], frozenset[int] | None]


class LostTwice(Unavailable):
    """A call was made twice, and may have been lost both times."""


class Watched:
    """One call, which may be made again.

    Args:
        began: On the clock of `time.monotonic`.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self._deaths = self._expected = 0
        self._told, self._again = False, math.inf
        self._woken: asyncio.Future[None] | None = None

    def check(self, *attempts: grpc.aio.Call) -> None:
        """Raises LostTwice if what was made again may have been lost, too, and none of the attempts has ended."""
        if self._deaths > self._expected and not any(each.done() for each in attempts):
            raise LostTwice("processes of the model died twice; new ones are on their way")

    def again(self, expected: int) -> None:
        """The call is made again. expected: processes that have died, and have not been seen to have."""
        self._deaths, self._expected, self._told, self._again = 0, expected, False, time.monotonic()

    def died(self, count: int, since: float) -> None:
        """So many processes of the model have died. since: the last look; if it is old, they may have died before."""
        if since >= self._again - 2 * _LOOK:
            self._deaths += count
            self.tell()

    def tell(self) -> None:
        """The call may have been lost."""
        self._told = True
        self._wake()

    async def until(self, *attempts: grpc.aio.Call, seconds: float | None = None) -> None:
        """Returns when one of the attempts has ended, when the call is told something, or when the time is over."""
        if self._told or any(each.done() for each in attempts):
            self._told = False
            return
        self._woken = asyncio.get_running_loop().create_future()
        for each in attempts:
            each.add_done_callback(self._wake)
        try:
            await asyncio.wait([self._woken], timeout=seconds)
        finally:
            self._woken = None
        self._told = False

    def _wake(self, *_: object) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


@dataclass(frozen=True)
class Seen:
    """The processes of a model.

    Attributes:
        ids: Of those that were ready.
        at: When that was asked, on the clock of `time.monotonic`.
    """

    ids: frozenset[int]
    at: float


@dataclass
class _Model:
    """What is known of a model and version.

    Attributes:
        calls: Under way, the oldest first.
        suspects: That may have been lost, and have not been told.
        told: That have been told, and are under way.
        seen: The last look.
        looking: Looks.
    """

    calls: dict[Watched, None] = field(default_factory=dict)
    suspects: deque[Watched] = field(default_factory=deque)
    told: set[Watched] = field(default_factory=set)
    seen: Seen | None = None
    looking: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Tells the oldest suspects, as far as there is room."""
        while self.suspects and len(self.told) < _AT_A_TIME:
            watched = self.suspects.popleft()
            if watched in self.calls and watched not in self.told:
                self.told.add(watched)
                watched.tell()


class ProcessWatch:
    """Looks at the processes of models as long as calls of them are under way that have taken a while.

    Args:
        processes: Ids of those of a model and version that are ready; None if that cannot be told. It may block.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._models: dict[Key, _Model] = {}

    def close(self) -> None:
        """Ends all looks."""
        for model in self._models.values():
            if model.looking is not None:
                model.looking.cancel()

    @contextmanager
    def call(self, model: str, version: str) -> Iterator[Watched]:
        """Watches for a call of a version that is served, as long as the context is open."""
        key, watched = (model, version), Watched(time.monotonic())
        known = self._models.setdefault(key, _Model())
        known.calls[watched] = None
        if known.looking is None:
            known.looking = asyncio.create_task(self._look(key, known))
        try:
            yield watched
        finally:
            del known.calls[watched]
            if watched in known.told:
                known.told.remove(watched)
                known.tell()

    async def _look(self, key: Key, model: _Model) -> None:
        """Goes on as long as there are calls."""
        try:
            if model.seen is None:
                await self._compare(key, model)
            while model.calls:
                await asyncio.sleep(_LOOK)
                oldest = next(iter(model.calls), None)
                if oldest is not None and time.monotonic() - oldest.began >= _LOOK:
                    await self._compare(key, model)
        finally:
            model.looking = None

    async def _compare(self, key: Key, model: _Model) -> None:
        now, ids = time.monotonic(), None
        try:
            ids = await asyncio.to_thread(self._processes, *key)
        except (OuzelError, ValueError, KeyError, TypeError) as error:  # calls may be answered nevertheless
            _log.info("TorchServe does not tell the processes of %s %s: %s", *key, error)
        if ids is None:
            return
        before, model.seen = model.seen, Seen(ids, now)
        if before is None or before.ids == ids:
            return
        died = before.ids - ids
        _log.warning("%s %s: %d processes died or were stopped, %d came", *key, len(died), len(ids - before.ids))
        for watched in model.calls:
            if watched.began >= now:  # it goes to those that are there
                continue
            watched.died(len(died), before.at)
            model.suspects.append(watched)
        model.tell()
