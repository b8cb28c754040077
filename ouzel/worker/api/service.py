"""What the services have in common: who calls, and threads for what blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

import grpc.aio

from ouzel.worker.api.tokens import Tokens

T = TypeVar("T")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_CHECKS = 4


class Service:
    """A service that asks in threads what would block the event loop.

    Args:
        tokens: Tell the owners of calls.
        threads: Calls that may block at a time.
        name: Of the threads.
    """

    def __init__(self, tokens: Tokens, *, threads: int, name: str) -> None:
        self._tokens = tokens
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

    async def run(self, function: Callable[..., T], *args: Any, **more: Any) -> T:
        """The result of a call that blocks, for milliseconds."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*args, **more))

    async def run_slow(self, function: Callable[..., T], *args: Any) -> T:
        """The result of a call that may take minutes. No other call waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._slow_threads, lambda: function(*args))
