"""News of one job's events, from the store's threads into the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from ouzel.worker.store import Callers
from ouzel_protos.v1 import job_pb2 as pb

_LOOK = 2.0  # s after which to read the store though there was no news
_MOST = 1000  # events kept for a slow reader, who reads them from the store if there are more


class Watch:
    """after: the newest event that is known. Use it as a context manager, in the event loop."""

    def __init__(self, store: Callers, job: str, after: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._events: dict[int, pb.JobEvent] = {}
        self._end = store.listen(job, self._heard, after)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def take(self, after: int) -> list[pb.JobEvent] | None:
        """Events that came in, those after `after`; None if some are missing and the store must be read."""
        events, self._events = self._events, {}
        self._news.clear()
        fresh = [events[sequence] for sequence in sorted(events) if sequence > after]
        return None if fresh and fresh[-1].sequence != after + len(fresh) else fresh

    async def news(self, closing: asyncio.Event, seconds: float = _LOOK) -> bool:
        """Wait for some, for `seconds` or two at most, or until `closing` is set. Returns whether there are any."""
        waiting = [asyncio.ensure_future(self._news.wait()), asyncio.ensure_future(closing.wait())]
        try:
            await asyncio.wait(waiting, timeout=min(seconds, _LOOK), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        return self._news.is_set()

    def _heard(self, events: Sequence[pb.JobEvent]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._add, events)

    def _add(self, events: Sequence[pb.JobEvent]) -> None:
        if len(self._events) > _MOST:
            self._events.clear()
        self._events.update((event.sequence, event) for event in events)
        self._news.set()
