"""Dynamic batching: what has queued while a batch was computed becomes the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

from ouzel.errors import Unavailable

Q = TypeVar("Q")
A = TypeVar("A")


class Batcher(Generic[Q, A]):
    """Answers questions of many callers together, one batch at a time. Lives in one event loop.

    Nobody waits for others to come: a lone question is a batch.

    Args:
        answer: Gives one answer per question, in order. It runs in a thread.
        size: Questions that are answered together at most.
        executor: Of the threads.
    """

    def __init__(self, answer: Callable[[list[Q]], Sequence[A]], size: int, executor: Executor) -> None:
        self._answer, self._size, self._executor = answer, size, executor
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, questions: Sequence[Q]) -> list[A]:
        """The answers. Who is cancelled meanwhile takes along the questions that have not begun."""
        if self._closed:
            raise Unavailable("the service is stopping")
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[A]] = [loop.create_future() for _ in questions]
        self._waiting.extend(zip(questions, futures, strict=True))
        if self._task is None:
            self._task = loop.create_task(self._work())
        try:
            return [await future for future in futures]
        finally:
            for future in futures:
                future.cancel()  # no effect on one that is done
                if future.done() and not future.cancelled():
                    future.exception()  # the first one was raised; the others say the same

    def close(self) -> None:
        """Fails what has not begun."""
        self._closed = True
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(Unavailable("the service is stopping"))
        self._waiting.clear()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while batch := self._take():
                questions = [question for question, _ in batch]
                try:
                    answers = await loop.run_in_executor(self._executor, self._answer, questions)
                    if len(answers) != len(batch):
                        raise RuntimeError(f"{len(answers)} answers to {len(batch)} questions")
                except Exception as error:  # noqa: BLE001 - whoever asked hears it
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        finally:
            self._task = None

    def _take(self) -> list[tuple[Q, asyncio.Future[A]]]:
        batch: list[tuple[Q, asyncio.Future[A]]] = []
        while self._waiting and len(batch) < self._size:
            each = self._waiting.popleft()
            if not each[1].done():  # else its caller has left
                batch.append(each)
        return batch
