"""Trials beside each other, each in a process of its own; the process that searches computes none itself.

It tells workers what to try, hands them the images that they ask for, hears of each epoch, and says at once whether a
trial goes on: asynchronous successive halving never waits for other trials. So which trials are tried and stopped
depends on which one gets where first. What a trial comes to with its values does not.

A worker that is lost ends the search. What it had computed is lost anyway, and the one who called decides whether there
is a next attempt, which gets the finished trials.
"""

from __future__ import annotations

import math
import queue
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from ouzel.errors import InvalidArgument
from ouzel.finetune.data import Example
from ouzel.finetune.distributed.group import SECONDS
from ouzel.finetune.distributed.lead import RankLost
from ouzel.finetune.events import TELL, Event, OnEvent, starting
from ouzel.finetune.recipes import Recipe
from ouzel.finetune.search.channel import Channel, packed
from ouzel.finetune.search.messages import Content, Ended, Epoch, Failed, Setup, Start, Verdict, Wanted
from ouzel.finetune.search.processes import Starter, Workers
from ouzel.finetune.search.results import Trial
from ouzel.finetune.search.running import Running
from ouzel.finetune.search.study import Study

_LOOK = 0.1  # s between two looks at the workers
_SETTLE = 10.0  # s in which a worker whose connection has broken is seen to have ended
_READERS = 8  # images that are read at a time, for all workers


class Beside:
    """The trials of a search, and the workers that compute them.

    Args:
        setup: What trials share.
        examples: Their images, with their readers.
        recipe: Makes a recipe of a trial's values.
        compared: How many images trials are compared on.
        study: Says what is tried, and what is stopped.
        done: Trials of an attempt before, in the order in which they have ended.
        begun: Those that were under way then, which begin again.
        on_event: Hears of the oldest trial that runs, and may raise to end the search.
        on_trial: Hears of each trial twice.
        on_wait: Is called several times a second, and may raise to end the search.
    """

    def __init__(
        self,
        setup: Setup,
        examples: Sequence[Example],
        recipe: Callable[[Trial], Recipe],
        compared: int,
        study: Study,
        *,
        done: Sequence[Trial],
        begun: Sequence[Trial],
        on_event: OnEvent,
        on_trial: Callable[[Trial], None],
        on_wait: Callable[[], None],
    ) -> None:
        self._setup, self._readers = packed(setup), {each.sha256: each.read for each in examples}
        self._recipe, self._compared, self._study = recipe, compared, study
        self._done, self._again = list(done), deque(begun)
        self._on_event, self._on_trial, self._on_wait = on_event, on_trial, on_wait
        self._reading = ThreadPoolExecutor(_READERS, thread_name_prefix="ouzel-search")
        self._inbox: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._channels: dict[int, Channel] = {}
        self._heard: dict[int, float] = {}
        self._free: deque[int] = deque()
        self._running: dict[int, Running] = {}
        self._looked = self._told = 0.0

    def run(self, trials: int, starter: Starter, workers: int) -> list[Trial]:
        """All trials, in the order in which they have ended. To be called once.

        Args:
            trials: How many.
            starter: Starts workers.
            workers: How many run at a time.

        Raises:
            RankLost: A worker has ended, or did not answer.
            MemoryError: A worker had too little memory.
        """
        try:
            if (count := min(workers, trials - len(self._done))) > 0:
                running = starter(count, self._joined)
                try:
                    self._run(trials, running, count)
                finally:
                    self._end_channels()
                    running.close()
        finally:
            self._end_channels()  # of those that came meanwhile
            self._reading.shutdown(cancel_futures=True)
        return self._done

    def _run(self, trials: int, workers: Workers, count: int) -> None:
        begun = time.monotonic()
        while len(self._done) < trials:
            self._on_wait()
            self._check(workers)
            self._tell_start(begun, count)
            while self._free and len(self._done) + len(self._running) < trials:
                self._start(self._free.popleft())
            try:
                number, message = self._inbox.get(timeout=_LOOK)
            except queue.Empty:
                continue
            self._take(number, message, workers)

    def _end_channels(self) -> None:
        while self._channels:
            self._channels.popitem()[1].close()

    def _joined(self, number: int, connection: Connection) -> None:
        def heard(message: Any) -> None:
            self._heard[number] = time.monotonic()  # here, as the thread that searches may wait for a storage
            if isinstance(message, Wanted):
                self._reading.submit(self._read, number, message.sha256)
            else:
                self._inbox.put((number, message))

        self._heard[number] = time.monotonic()
        channel = Channel(connection, heard, lambda: self._inbox.put((number, _Gone())))
        self._channels[number] = channel
        channel.send(self._setup)
        self._inbox.put((number, _Joined()))

    def _start(self, worker: int) -> None:
        trial = self._study.again(self._again.popleft()) if self._again else self._study.ask()
        running = self._running[worker] = Running(self._study, trial, self._compared)
        self._on_trial(running.trial)
        self._channels[worker].send(Start(self._recipe(trial)))

    def _take(self, number: int, message: Any, workers: Workers) -> None:
        if isinstance(message, _Joined):
            self._free.append(number)
        elif isinstance(message, Event):
            self._told = math.inf
            oldest = min(self._running.values(), key=lambda each: each.trial.number)
            if self._running[number] is oldest:
                self._on_event(message)
        elif isinstance(message, Epoch):
            self._channels[number].send(Verdict(self._running[number].note(message.row)))
        elif isinstance(message, Ended):
            self._done.append(self._running.pop(number).end(message.outcome, message.reason))
            self._on_trial(self._done[-1])
            self._free.append(number)
        elif isinstance(message, Failed):
            raise message.error
        elif isinstance(message, _Gone):
            until = time.monotonic() + _SETTLE
            while (lost := workers.lost()) is None and time.monotonic() < until:
                time.sleep(_LOOK)
            raise lost or RankLost(f"workers: the connection to worker {number + 1} of the search has broken")

    def _check(self, workers: Workers) -> None:
        """Raises if a worker has ended, or stands still."""
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        if (lost := workers.lost()) is not None:
            raise lost
        for number, heard in list(self._heard.items()):
            if now - heard > SECONDS:
                raise RankLost(f"workers: worker {number + 1} of the search has said nothing for {SECONDS:g} s")

    def _tell_start(self, begun: float, count: int) -> None:
        """Tells that workers start, until a trial tells something: who waits for events must not take it for a hang.

        Not for longer than a worker may say nothing: whatever stands still then must be found by who waits.
        """
        now = time.monotonic()
        if now - self._told >= TELL and now - begun < SECONDS:
            self._told = now
            self._on_event(starting(count))

    def _read(self, number: int, sha256: str) -> None:
        """Hands an image to a worker. That one cannot be used is told by the trial, anything else ends the search."""
        try:
            content: bytes | Exception = self._readers[sha256]()
        except InvalidArgument as error:
            content = InvalidArgument(str(error), field=error.field)
        except Exception as error:  # noqa: BLE001 - raised again by the thread that searches
            self._inbox.put((number, Failed(error)))
            return
        if (channel := self._channels.get(number)) is not None:
            channel.send(Content(sha256, content))


@dataclass(frozen=True)
class _Joined:
    """A worker can be talked to."""


@dataclass(frozen=True)
class _Gone:
    """A worker's connection has ended."""


def missing(begun: Sequence[Trial], done: Sequence[Trial]) -> list[Trial]:
    """Those that have begun and not ended, in order."""
    ended: Mapping[int, Trial] = {each.number: each for each in done}
    return sorted((each for each in begun if each.number not in ended), key=lambda each: each.number)
