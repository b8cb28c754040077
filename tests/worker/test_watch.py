"""News of events in the event loop, from a store that only tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from ouzel.worker.api.event_stream import Watches
from ouzel.worker.store.protocol import ClientStore, Listener
from ouzel_protos.v1 import job_pb2 as pb


class Telling:
    """A store whose listeners a test calls itself."""

    def __init__(self) -> None:
        self.listeners: list[tuple[str, int, Listener]] = []

    def listen(self, job: str, listener: Listener, after: int = 0) -> Callable[[], None]:
        entry = (job, after, listener)
        self.listeners.append(entry)
        return lambda: self.listeners.remove(entry)

    async def tell(self, *sequences: int) -> None:
        """From another thread, as a store does."""
        events = [pb.JobEvent(sequence=each) for each in sequences]
        for _, _, listener in self.listeners:
            await asyncio.to_thread(listener, events)


@pytest.fixture
def store() -> Telling:
    return Telling()


@pytest.fixture
def watches(store: Telling) -> Watches:
    return Watches(cast(ClientStore, store))


def numbers(events: list[pb.JobEvent] | None) -> Any:
    return None if events is None else [each.sequence for each in events]


async def test_many_share_one_listener_and_all_hear(store: Telling, watches: Watches) -> None:
    with watches.watch("a", 3) as first:
        with watches.watch("a", 4) as second, watches.watch("b", 0):
            assert [(job, after) for job, after, _ in store.listeners] == [("a", 3), ("b", 0)]
            waiting = [asyncio.ensure_future(each.news(60)) for each in (first, second)]
            await asyncio.sleep(0)
            await store.tell(4, 5)
            assert await asyncio.gather(*waiting) == [True, True]
            assert (numbers(first.take(3)), numbers(second.take(4))) == ([4, 5], [5])
        assert [job for job, *_ in store.listeners] == ["a"]
        await store.tell(6)
        assert await first.news()
        assert numbers(first.take(5)) == [6]
    assert store.listeners == []


async def test_twice_late_or_with_a_gap(store: Telling, watches: Watches) -> None:
    with watches.watch("a", 0) as watch:
        await store.tell(2)
        await store.tell(1, 2)
        assert await watch.news()
        assert numbers(watch.take(0)) == [1, 2]
        await store.tell(1, 2)
        assert await watch.news()
        assert numbers(watch.take(2)) == []
        await store.tell(4)
        assert await watch.news()
        assert numbers(watch.take(2)) is None


async def test_more_than_a_slow_reader_may_keep(store: Telling, watches: Watches) -> None:
    with watches.watch("a", 0) as watch:
        for sequence in range(1, 1200):
            await store.tell(sequence)
        assert await watch.news()
        assert numbers(watch.take(0)) is None


async def test_no_news(watches: Watches) -> None:
    with watches.watch("a", 0) as watch:
        assert not await watch.news(0.01)
        assert numbers(watch.take(0)) == []


async def test_closing_wakes_all(watches: Watches) -> None:
    with watches.watch("a", 0) as first, watches.watch("b", 0) as second:
        waiting = [asyncio.ensure_future(each.news(60)) for each in (first, second)]
        await asyncio.sleep(0)
        watches.close()
        assert await asyncio.wait_for(asyncio.gather(*waiting), 1) == [False, False]
        assert not await asyncio.wait_for(first.news(60), 1)


async def test_one_who_gives_up_waiting(store: Telling, watches: Watches) -> None:
    with watches.watch("a", 0) as watch:
        waiting = asyncio.ensure_future(watch.news(60))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await store.tell(1)
        assert await watch.news()
    assert store.listeners == []
