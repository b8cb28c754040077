"""Which calls may have been lost with a model process, while they are under way.

TorchServe may hand a request to a process in the moment in which that dies, and then tells nobody: the request waits
until its caller gives up. So calls that take long are told when the processes of their model are others than before.

While a model has no process at all, TorchServe lets calls wait for the next one. Those that cannot be answered in
their time, by how long that took before, are told so at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc.aio

from ouzel.errors import OuzelError, Unavailable

_log = logging.getLogger(__name__)
_LOOK = 0.25  # s between two looks, and for which a call is too young to be worth one
_PAUSE = 1.0  # s that TorchServe waits at least before it starts a process in the place of one that has died
_AT_A_TIME = 8  # calls that are told, of a model: those that were lost are the oldest, others only fill the queue

Key = tuple[str, str]
Processes = Callable[[str, str], frozenset[int] | None]


class LostTwice(Unavailable):
    """A call was made twice, and may have been lost both times."""


class TooLate(Unavailable):
    """A call waits for a process that would come too late."""

    def __init__(self) -> None:
        super().__init__("the processes of the model died; a new one would be ready too late for this call")


class Watched:
    """One call, which may be made again.

    Args:
        began: On the clock of `time.monotonic`.
        deadline: On that clock.
    """

    def __init__(self, began: float, deadline: float = math.inf) -> None:
        self.began, self._deadline, self._late = began, deadline, False
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

    def expect(self, ready: float) -> None:
        """No process can answer the call before `ready`, on the clock of `time.monotonic`."""
        self._late = self._deadline < ready
        if self._late:
            self._wake()

    async def until(self, *attempts: grpc.aio.Call, seconds: float | None = None) -> None:
        """Returns when one of the attempts has ended, when the call is told something, or when the time is over.

        Raises:
            TooLate: No attempt has ended, and none can be answered in time.
        """
        await self._until(attempts, seconds)
        if self._late and not any(each.done() for each in attempts):
            raise TooLate

    async def _until(self, attempts: Sequence[grpc.aio.Call], seconds: float | None) -> None:
        if self._told or self._late or any(each.done() for each in attempts):
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
        down: Since when it has had no process, as far as looks can tell; None if it has one.
        stalled: Seconds for which it had none before that.
        whole: Whether `down` was seen to begin.
        recovery: The shortest of the times without a process that were seen from their beginning, in seconds.
    """

    calls: dict[Watched, None] = field(default_factory=dict)
    suspects: deque[Watched] = field(default_factory=deque)
    told: set[Watched] = field(default_factory=set)
    seen: Seen | None = None
    looking: asyncio.Task[None] | None = None
    down: float | None = None
    stalled: float = 0.0
    whole: bool = False
    recovery: float = math.inf

    def look(self, ready: bool, now: float) -> None:
        """What becomes of `down`. To be called before `seen` changes."""
        if ready and self.down is not None:
            if self.whole:
                self.recovery = min(self.recovery, now - self.down - _LOOK)
            self.rest(now)
        elif not ready and self.down is None:
            self.down = now
            self.whole = self.seen is not None and bool(self.seen.ids) and now - self.seen.at < 4 * _LOOK

    def rest(self, now: float) -> None:
        """It has processes again, or nobody looks any more."""
        if self.down is not None:
            self.stalled += now - self.down
            self.down = None

    @property
    def again(self) -> float:
        """Before when it has no process; 0 if it has one."""
        if self.down is None:
            return 0.0
        return self.down + (max(_PAUSE, self.recovery) if self.recovery < math.inf else _PAUSE)

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

    def stalled(self, model: str, version: str = "") -> float:
        """Seconds so far in which a version, or any of them, had no process while calls of it were under way."""
        now = time.monotonic()
        known = [each for key, each in self._models.items() if key[0] == model and version in ("", key[1])]
        return max((each.stalled + (0.0 if each.down is None else now - each.down) for each in known), default=0.0)

    @contextmanager
    def call(self, model: str, version: str, deadline: float) -> Iterator[Watched]:
        """Watches for a call of a version that is served, as long as the context is open.

        Raises:
            TooLate: There is no process, and the next one would come after the deadline.
        """
        key, watched = (model, version), Watched(time.monotonic(), deadline)
        known = self._models.setdefault(key, _Model())
        if deadline < known.again:
            raise TooLate
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
            model.rest(time.monotonic())

    async def _compare(self, key: Key, model: _Model) -> None:
        now, ids = time.monotonic(), None
        try:
            ids = await asyncio.to_thread(self._processes, *key)
        except (OuzelError, ValueError, KeyError, TypeError) as error:  # calls may be answered nevertheless
            _log.info("TorchServe does not tell the processes of %s %s: %s", *key, error)
        if ids is None:
            return
        model.look(bool(ids), now)
        for watched in model.calls:
            watched.expect(model.again)
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
