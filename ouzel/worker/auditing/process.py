"""The worker's end of the process that audits."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from ouzel.errors import Unavailable, kind_of
from ouzel.telemetry import tracing
from ouzel.worker.auditing import frames
from ouzel.worker.auditing.frames import Frame
from ouzel.worker.auditing.task import ResidentOptions

_log = logging.getLogger(__name__)
_MODULE = "ouzel.worker.auditing.resident"
_START_SECONDS = 120.0
_LAST_SPANS = 2.0  # s
# Threads of torch that wait for each other sleep. By default they spin, which beside a job on the same cores makes an
# audit ten times slower, and the job as well.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}


class Call:
    """One audit in the process. Made by `AuditProcess.call`.

    Attributes:
        number: Of the audit.
    """

    def __init__(self, process: AuditProcess, number: int, ended: Callable[[], None]) -> None:
        self._process, self.number, self._ended = process, number, ended
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    async def send(self, frame: Frame) -> None:
        """Sends a frame. Raises Unavailable if the process is lost."""
        await self._process.send(frame)

    async def receive(self) -> Frame:
        """The next frame that is no failure.

        Raises:
            Unavailable: The process is lost.
            OuzelError: The audit has failed.
        """
        frame = await self._frames.get()
        if frame is None:
            raise Unavailable("the process that audits was lost; try again")
        if frame.kind == "failed":
            raise kind_of(frame.about["code"])(frame.about["message"], field=frame.about["field"])
        return frame

    def leave(self, grace: float) -> None:
        """Gives the audit up if it has not ended: it has `grace` seconds to do so, or the process is killed."""
        if self._over:
            return
        self._process.give_up(self.number)
        self._timer = asyncio.get_running_loop().call_later(grace, self._process.end, "it does not stop an audit")

    def take(self, frame: Frame | None) -> None:
        """Takes a frame of the process; None where it is lost."""
        self._frames.put_nowait(frame)
        if (frame is None or frame.kind in ("done", "failed")) and not self._over:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
            self._ended()


class AuditProcess:
    """The process, as long as it lives.

    Args:
        process: That was started.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._calls: dict[int, Call] = {}
        self._last = 0
        self._ready = asyncio.Event()
        self._lost = False
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, options: ResidentOptions) -> Self:
        """Starts it, which takes seconds. Raises Unavailable."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_ENVIRONMENT | os.environ,
        )
        started = cls(process)
        try:
            await started.send(Frame("setup", body=pickle.dumps(options)))
            async with asyncio.timeout(_START_SECONDS):
                await started._ready.wait()
            if not started.alive:
                raise Unavailable("the process that audits does not start; the worker's log says why")
        except BaseException as error:
            await started.kill()
            if isinstance(error, TimeoutError):
                raise Unavailable("the process that audits does not start in time") from None
            raise
        return started

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._lost and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    def call(self, ended: Callable[[], None]) -> Call:
        """Begins a conversation.

        Args:
            ended: Called once, when the process has ended the audit or is lost.
        """
        self._last += 1
        made = self._calls[self._last] = Call(self, self._last, ended)
        if not self.alive:
            self._calls.pop(made.number).take(None)
        return made

    async def send(self, frame: Frame) -> None:
        """Sends a frame. Raises Unavailable if it is lost."""
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(frame.encode())
            await pipe.drain()
        except (ConnectionError, RuntimeError):
            raise Unavailable("the process that audits was lost; try again") from None

    def give_up(self, number: int) -> None:
        """Tells it that nobody waits for an audit any more."""
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(ConnectionError, RuntimeError):
            pipe.write(Frame("cancel", number).encode())

    def end(self, reason: str) -> None:
        """Kills it; those who wait get Unavailable."""
        if self._process.returncode is None:
            _log.warning("the process %d that audits is killed: %s", self._process.pid, reason)
            with suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self) -> None:
        """Ends it. If it traces, it has a moment to send what it has not sent."""
        pipe = self._process.stdin
        if tracing.on() and pipe is not None:
            pipe.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_SPANS):
                    await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """Kills it, and waits for its end."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        try:
            while (frame := await frames.receive(pipe)) is not None:
                if frame.kind == "ready":
                    self._ready.set()
                elif (call := self._calls.get(frame.number)) is not None:
                    if frame.kind in ("done", "failed"):
                        del self._calls[frame.number]
                    call.take(frame)
        except (ValueError, OSError) as error:
            self.end(f"it writes what is no frame ({error})")
        finally:
            self._lost = True
            self._ready.set()
            calls, self._calls = list(self._calls.values()), {}
            for call in calls:
                call.take(None)
            if calls:
                _log.error("the process that audits was lost with %d audits", len(calls))
