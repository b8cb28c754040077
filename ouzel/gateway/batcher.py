"""Dynamic batching: what has queued, and was read, while a batch was computed becomes the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from ouzel.errors import Unavailable

Q = TypeVar("Q")
B = TypeVar("B")
A = TypeVar("A")


@dataclass(eq=False)
class _Waiting(Generic[Q, B, A]):
    question: Q
    answer: asyncio.Future[A]
    begun: Future[B] | None = None

    def leave(self) -> None:
        """Its caller waits no longer."""
        if self.begun is not None:
            self.begun.cancel()  # no effect once it is being read


class Batcher(Generic[Q, B, A]):
    """Answers questions of many callers together, one batch at a time. Lives in one event loop.

    Nobody waits for others to come: a lone question is a batch. While a batch is computed, the questions of the next
    one are begun, and no more than those, so that what is begun is bounded.

    Args:
        begin: Has a question read in another thread, and does not wait for that. What it raises, `answer` hears.
        answer: Waits for what was begun, and gives one answer per question, in order. It runs in a thread.
        size: Questions that are answered together at most.
        executor: Of the threads that answer; those that read must be others.
    """

    def __init__(
        self,
        begin: Callable[[Q], Future[B]],
        answer: Callable[[list[Future[B]]], Sequence[A]],
        size: int,
        executor: Executor,
    ) -> None:
        self._begin, self._answer, self._size, self._executor = begin, answer, size, executor
        self._waiting: deque[_Waiting[Q, B, A]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, questions: Sequence[Q]) -> list[A]:
        """The answers. Who is cancelled meanwhile takes along the questions whose batch has not begun."""
        if self._closed:
            raise Unavailable("the service is stopping")
        loop = asyncio.get_running_loop()
        mine = [_Waiting[Q, B, A](question, loop.create_future()) for question in questions]
        self._waiting.extend(mine)
        if self._task is None:
            self._task = loop.create_task(self._work())
        self._begin_next()
        try:
            return [await each.answer for each in mine]
        finally:
            for each in mine:
                each.answer.cancel()  # no effect on one that is done
                if each.answer.done() and not each.answer.cancelled():
                    each.answer.exception()  # the first one was raised; the others say the same
            self._begin_next()

    def close(self) -> None:
        """Fails what has not begun."""
        self._closed = True
        _fail(self._waiting, Unavailable("the service is stopping"))
        self._waiting.clear()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while batch := self._take():
                self._begin_next()
                try:
                    begun = [self._begun(each) for each in batch]
                    answers = await loop.run_in_executor(self._executor, self._answer, begun)
                    if len(answers) != len(batch):
                        raise RuntimeError(f"{len(answers)} answers to {len(batch)} questions")
                except asyncio.CancelledError:  # the threads have been shut down
                    _fail(batch, Unavailable("the service is stopping"))
                    raise
                except Exception as error:  # noqa: BLE001 - whoever asked hears it
                    _fail(batch, error)
                    continue
                for each, answer in zip(batch, answers, strict=True):
                    if not each.answer.done():
                        each.answer.set_result(answer)
        finally:
            self._task = None

    def _begin_next(self) -> None:
        """Begins as many questions as the next batch may have, in the order in which they came."""
        left = [each for each in self._waiting if each.answer.done()]
        if left:
            for each in left:
                each.leave()
            self._waiting = deque(each for each in self._waiting if not each.answer.done())
        for each in islice(self._waiting, self._size):
            self._begun(each)

    def _begun(self, each: _Waiting[Q, B, A]) -> Future[B]:
        if each.begun is None:
            try:
                each.begun = self._begin(each.question)
            except Exception as error:  # noqa: BLE001 - no thread can be started, for instance; nobody may wait for ever
                each.begun = Future()
                each.begun.set_exception(error)
        return each.begun

    def _take(self) -> list[_Waiting[Q, B, A]]:
        self._begin_next()
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._size))]


def _fail(waiting: Iterable[_Waiting[Q, B, A]], error: Exception) -> None:
    for each in waiting:
        if not each.answer.done():
            each.answer.set_exception(error)
