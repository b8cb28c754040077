"""Conversations with the worker that callers of HTTP hold in steps: one request for each of their messages.

A conversation lives in this process, from its first step to its end, and no longer than its caller is waited for.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

from ouzel.errors import FailedPrecondition, NotFound, OuzelError, ResourceExhausted
from ouzel.gateway.access.caller import Caller
from ouzel.gateway.worker.json_messages import told
from ouzel.gateway.worker.methods import Method
from ouzel.gateway.worker.relay import Relay, WorkerError
from ouzel_protos.v1 import audit_pb2 as pb

LONGEST = 600.0  # s, which the worker allows
_PATIENCE = 60.0  # s for the next step, where the worker says nothing of it
_SPARE = 2.0  # s by which the worker may be the first to lose its patience
_MOST = 256  # of all callers
_AGAIN = 5.0  # s after which somebody may have ended one


@dataclass(frozen=True)
class Step:
    """What the worker says until it waits for the caller, or has ended.

    Attributes:
        conversation: Its id; "" when it has ended.
        messages: In order.
    """

    conversation: str
    messages: tuple[pb.AuditReportedResponse, ...]


@dataclass(eq=False)
class _Conversation:
    caller: Caller
    sent: asyncio.Queue[bytes | None]
    answers: AsyncGenerator[bytes]
    patience: float = _PATIENCE
    busy: bool = False
    ending: asyncio.Task[None] | None = field(default=None, repr=False)


class Conversations:
    """Those that are open.

    Args:
        relay: To the worker.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._open: dict[str, _Conversation] = {}

    async def start(self, method: Method, caller: Caller, message: bytes, seconds: float | None) -> Step:
        """Begins one.

        Args:
            method: A conversation of the worker.
            caller: Who was admitted for it.
            message: The first one.
            seconds: For all of it; None is the longest.

        Raises:
            ResourceExhausted: The tenant, or all of them, have too many.
            OuzelError: The worker's refusal.
        """
        held = sum(each.caller.tenant == caller.tenant for each in self._open.values())
        if len(self._open) >= _MOST or held >= caller.limits.concurrency:
            most = min(_MOST, caller.limits.concurrency)
            raise ResourceExhausted(f"{held} conversations are open, of at most {most}; end one", retry_after=_AGAIN)
        sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        answers = self._relay.call(method, caller, _each(sent), min(seconds or LONGEST, LONGEST))
        name = secrets.token_urlsafe(18)
        self._open[name] = _Conversation(caller, sent, answers)
        return await self._step(name, message)

    async def go_on(self, name: str, caller: Caller, message: bytes) -> Step:
        """The next step of one.

        Args:
            name: Its id.
            caller: Who began it.
            message: The answer to the question that came last.

        Raises:
            NotFound: There is no such conversation (any more), or it is somebody else's.
            FailedPrecondition: A step of it is under way.
            OuzelError: The worker's refusal, which ends it.
        """
        self._checked(name, caller)
        return await self._step(name, message)

    async def end(self, name: str, caller: Caller) -> None:
        """Gives one up. Raises NotFound."""
        self._checked(name, caller)
        await self._end(name)

    async def close(self) -> None:
        """Gives all up."""
        for name in list(self._open):
            await self._end(name)

    def _checked(self, name: str, caller: Caller) -> _Conversation:
        found = self._open.get(name)
        if found is None or (found.caller.tenant, found.caller.name) != (caller.tenant, caller.name):
            raise NotFound(
                "conversation: there is none of this name, or it has ended: at its last answer, when an answer did not "
                "come in time, or with the gateway that held it",
                field="conversation",
            )
        if found.busy:
            raise FailedPrecondition("conversation: a step of it is under way", field="conversation")
        return found

    async def _step(self, name: str, message: bytes) -> Step:
        held = self._open[name]
        held.busy = True
        if held.ending is not None:
            held.ending.cancel()
        said: list[pb.AuditReportedResponse] = []
        waits = False
        try:
            held.sent.put_nowait(message)
            async for content in held.answers:
                said.append(pb.AuditReportedResponse.FromString(content))
                held.patience = said[-1].plan.patience or held.patience
                if waits := said[-1].HasField("question"):
                    break
        except WorkerError as error:
            raise told(error) from None
        finally:
            held.busy = False
            if waits:
                held.ending = asyncio.create_task(self._end_later(name, held.patience + _SPARE))
            else:
                await self._end(name)
        if not said:
            raise OuzelError("the worker answered nothing")
        return Step(name if waits else "", tuple(said))

    async def _end_later(self, name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._open[name].ending = None  # this very task
        await self._end(name)

    async def _end(self, name: str) -> None:
        held = self._open.pop(name, None)
        if held is None:
            return
        if held.ending is not None:
            held.ending.cancel()
        held.sent.put_nowait(None)
        with suppress(RuntimeError):  # a step reads it, and ends with the connection to the worker
            await held.answers.aclose()


async def _each(sent: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (message := await sent.get()) is not None:
        yield message
