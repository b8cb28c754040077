"""News of jobs' events, from the store's threads into the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from ouzel.worker.store.protocol import ClientStore
from ouzel_protos.v1 import job_pb2 as pb

_LOOK = 2.0  # s after which to read the store though there was no news
_MOST = 1000  # events kept for a slow reader, who reads them from the store if there are more


class Watch:
    """What one caller has not taken yet. Made by `Watches`, used in the event loop."""

    def __init__(self, watches: Watches) -> None:
        self._watches = watches
        self._events: dict[int, pb.JobEvent] = {}
        self._waiting: asyncio.Future[None] | None = None

    def take(self, after: int) -> list[pb.JobEvent] | None:
        """Takes the events that came in.

        Args:
            after: Only events with a greater sequence number.

        Returns:
            The events; None if some are missing and the store must be read.
        """
        events, self._events = self._events, {}
        fresh = [events[sequence] for sequence in sorted(events) if sequence > after]
        return None if fresh and fresh[-1].sequence != after + len(fresh) else fresh

    async def news(self, seconds: float = _LOOK) -> bool:
        """Waits for events, or until `Watches.close`.

        Args:
            seconds: How long at most; never longer than two seconds.

        Returns:
            Whether there are any.
        """
        if not self._events and not self._watches.closing:
            # A future and a timer: tasks that wait would cost more than to send an event.
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            timer = loop.call_later(min(seconds, _LOOK), self.wake)
            try:
                await self._waiting
            finally:
                timer.cancel()
                self._waiting = None
        return bool(self._events)

    def add(self, events: Sequence[pb.JobEvent]) -> None:
        """Adds events that came in."""
        if len(self._events) > _MOST:
            self._events.clear()
        self._events.update((event.sequence, event) for event in events)
        self.wake()

    def wake(self) -> None:
        """Ends the waiting."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


@dataclass(eq=False)
class _Watched:
    end: Callable[[], None] = lambda: None
    watches: set[Watch] = field(default_factory=set)


class Watches:
    """All watches of a service.

    However many there are of a job, the store calls once and the loop wakes once. Used in one event loop.

    Args:
        store: Calls when there are new events.
    """

    def __init__(self, store: ClientStore) -> None:
        self._store = store
        self._jobs: dict[str, _Watched] = {}
        self.closing = False

    def close(self) -> None:
        """Wakes all waiting watches. Later calls do not wait."""
        self.closing = True
        for watched in self._jobs.values():
            for each in watched.watches:
                each.wake()

    @contextmanager
    def watch(self, job: str, after: int) -> Iterator[Watch]:
        """Watches a job while the block runs.

        A watch that joins others must read the store once after that: it does not get the events before that.

        Args:
            job: Its id.
            after: An event that the store holds already. Events up to it are read there; later ones come to the watch.
        """
        watch, watched = Watch(self), self._watched(job, after)
        watched.watches.add(watch)
        try:
            yield watch
        finally:
            watched.watches.remove(watch)
            if not watched.watches:
                del self._jobs[job]
                watched.end()

    def _watched(self, job: str, after: int) -> _Watched:
        if job in self._jobs:
            return self._jobs[job]
        watched = self._jobs[job] = _Watched()
        loop = asyncio.get_running_loop()

        def add(events: Sequence[pb.JobEvent]) -> None:
            for each in watched.watches:
                each.add(events)

        def heard(events: Sequence[pb.JobEvent]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(add, events)

        watched.end = self._store.listen(job, heard, after)
        return watched
