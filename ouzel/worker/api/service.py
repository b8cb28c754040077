"""What the services have in common: who calls, and threads for what blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeAlias, TypeVar

import grpc.aio

from ouzel import visibility
from ouzel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, OuzelError
from ouzel.ledger.denials import Denials
from ouzel.ledger.recorder import Event, NotRecorded, Recorder
from ouzel.worker.api.tokens import Tokens

T = TypeVar("T")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_CHECKS = 4
_NO_LOG = Recorder(None)
_READING = ("Get", "List", "Wait", "Watch", "Find", "Download", "Check")  # methods that change nothing
# What was wrong with a request. That the worker has no room or time says nothing of the request.
_RECORDED = frozenset(
    (
        InvalidArgument.code,
        NotFound.code,
        AlreadyExists.code,
        FailedPrecondition.code,
    )
)


class Service:
    """A service that asks in threads what would block the event loop.

    Args:
        tokens: Tell the owners of calls.
        threads: Calls that may block at a time.
        name: Of the threads.
        recorder: Records what is refused and what is changed.
        denials: Counts refused calls that only read; the worker has one for all services.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        threads: int,
        name: str,
        recorder: Recorder = _NO_LOG,
        denials: Denials | None = None,
    ) -> None:
        self._tokens, self.recorder = tokens, recorder
        self._denials = denials or Denials(recorder, ())
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._slow_threads = ThreadPoolExecutor(_CHECKS, thread_name_prefix=f"{name}-slow")

    def release(self) -> None:
        """Ends the threads; what has not begun does not begin."""
        self._slow_threads.shutdown(cancel_futures=True)
        self._threads.shutdown(cancel_futures=True)

    def owner(self, context: Context) -> str:
        """Who calls."""
        owner = self._tokens.owner(context.invocation_metadata())
        assert owner is not None  # the interceptor has checked it
        return owner

    def may_name(self, context: Context) -> Callable[[str], bool]:
        """Which models an error may name that the caller has not named, where a gateway has said so."""
        given = [value for key, value in context.invocation_metadata() or () if key == visibility.HEADER]
        return visibility.of(str(given[0])) if given else lambda _name: True

    async def refused(self, method: str, context: Context, error: Exception) -> Exception:
        """Records that a request was refused.

        Args:
            method: That was called.
            context: Of the call.
            error: Why it was refused.

        Returns:
            What the caller hears: `error`, or why it could not be recorded. Of calls that only read it is always
            `error`: these are counted, and recorded together.
        """
        if not isinstance(error, OuzelError) or isinstance(error, NotRecorded):
            return error
        if error.code not in _RECORDED or not self.recorder.keeps:
            return error
        if method.startswith(_READING):
            self._denials.count(f"/ouzel.v1.{type(self).__name__}/{method}", error.code)
            return error
        facts = {"method": f"{type(self).__name__}/{method}", "code": error.code, "field": error.top_field}
        event = Event("refusal", facts, owner=self.owner(context), salted={"message": str(error)})
        try:
            await self.run(self.recorder.append, event)
        except OuzelError as problem:
            return problem
        return error

    async def run(self, function: Callable[..., T], *args: Any, **more: Any) -> T:
        """The result of a call that blocks, for milliseconds."""
        here = copy_context()  # what is logged there is of this call
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: here.run(function, *args, **more)
        )

    async def run_slow(self, function: Callable[..., T], *args: Any) -> T:
        """The result of a call that may take minutes. No other call waits for it."""
        here = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._slow_threads, lambda: here.run(function, *args))
