"""Audits for the service: at most so many at a time and waiting, in a process that is started again when it is lost.

Used in one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from ouzel.errors import DeadlineExceeded, OuzelError, ResourceExhausted, Unavailable
from ouzel.telemetry import tracing
from ouzel.worker.auditing.frames import Frame
from ouzel.worker.auditing.process import AuditProcess, Call
from ouzel.worker.auditing.task import ResidentOptions, Task

_log = logging.getLogger(__name__)
_RETRY_AFTER = 2.0  # seconds that a caller is asked to wait where the queue is full


@dataclass(frozen=True)
class PoolLimits:
    """How many audits there may be.

    Attributes:
        running: Of models and endpoints, at a time.
        conversations: With callers who answer themselves, at a time.
        waiting: In the queue.
        waiting_per_owner: In the queue, of one owner.
        grace: Seconds in which an audit that was given up must end; then the process is killed.
    """

    running: int = 2
    conversations: int = 8
    waiting: int = 32
    waiting_per_owner: int = 16
    grace: float = 5.0


_LIMITS = PoolLimits()


class AuditPool:
    """Runs audits in a process beside this one.

    Args:
        options: Of the process.
        limits: How many audits there may be.
    """

    def __init__(self, options: ResidentOptions, limits: PoolLimits = _LIMITS) -> None:
        threads = limits.running + limits.conversations
        self._options, self._limits = replace(options, threads=threads), limits
        self._start: asyncio.Task[AuditProcess] | None = None
        self._free = {
            "audit": asyncio.Semaphore(limits.running),
            "reported": asyncio.Semaphore(limits.conversations),
        }
        self._waiting: Counter[str] = Counter()
        self._under_way = 0
        self._stopped = False

    @property
    def running(self) -> int:
        """Audits under way."""
        return self._under_way

    @property
    def waiting(self) -> int:
        """Audits that wait for room."""
        return self._waiting.total()

    async def warm(self) -> None:
        """Starts the process before the first audit."""
        try:
            await self._running()
        except OuzelError as error:
            _log.warning("%s", error)

    async def audit(self, task: Task, body: bytes, seconds: float) -> bytes:
        """Runs an audit of a model or an endpoint.

        Args:
            task: What the service has found out.
            body: The request, serialised.
            seconds: After which nobody waits any more.

        Returns:
            The answer, serialised.

        Raises:
            ResourceExhausted: As many audits wait as may.
            Unavailable: The process was lost; the same audit may work later.
            DeadlineExceeded: The time is over.
            OuzelError: What the audit raises.
        """
        async with self.converse("audit", task, body, seconds) as call:
            return (await call.receive()).body

    @asynccontextmanager
    async def converse(self, kind: str, task: Task, body: bytes, seconds: float) -> AsyncIterator[Call]:
        """Runs an audit while the block does; `audit` says what it raises.

        Args:
            kind: "audit", or "reported" for one whose questions the caller answers.
            task: What the service has found out.
            body: The request, serialised.
            seconds: For the whole block.

        Yields:
            The conversation with the process.
        """
        try:
            async with asyncio.timeout(seconds):
                leave = await self._slot(kind, task.owner)
                self._under_way += 1

                def release() -> None:
                    self._under_way -= 1
                    leave()

                try:
                    process = await self._running()
                    call = process.call(release)
                except BaseException:
                    release()
                    raise
                try:
                    traced = replace(task, trace=tracing.carried())
                    await call.send(Frame(kind, call.number, traced.to_dict(), body))
                    yield call
                finally:
                    call.leave(self._limits.grace)
        except TimeoutError as error:
            if isinstance(error, OuzelError):
                raise
            raise DeadlineExceeded(f"the audit did not end within {seconds:.3g} s") from None

    async def stop(self) -> None:
        """Ends the process. Audits that run or come later get Unavailable."""
        self._stopped = True
        if self._start is not None:
            self._start.cancel()
            with suppress(asyncio.CancelledError, OuzelError):
                await (await self._start).stop()

    async def _slot(self, kind: str, owner: str) -> Callable[[], None]:
        """Waits for room; the result gives it back."""
        free = self._free[kind]
        if free.locked():
            for count, most, whose in (
                (self._waiting.total(), self._limits.waiting, ""),
                (self._waiting[owner], self._limits.waiting_per_owner, " of yours"),
            ):
                if count >= most:
                    raise ResourceExhausted(
                        f"audits: {count}{whose} are waiting, which is the limit; try again later",
                        retry_after=_RETRY_AFTER,
                    )
        self._waiting[owner] += 1
        try:
            await free.acquire()
        finally:
            self._waiting[owner] -= 1
        return free.release

    async def _running(self) -> AuditProcess:
        """The process, which is started if there is none. Those who wait for the start may leave without ending it."""
        if self._stopped:
            raise Unavailable("the worker is stopping")
        if self._start is None or (self._start.done() and not _lives(self._start)):
            self._start = asyncio.create_task(AuditProcess.start(self._options))
        return await asyncio.shield(self._start)


def _lives(start: asyncio.Task[AuditProcess]) -> bool:
    return not start.cancelled() and start.exception() is None and start.result().alive
