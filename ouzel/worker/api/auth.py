"""Calls without a known token are denied, and errors become grpc_errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from ouzel import grpc_errors
from ouzel.worker.api.tokens import Tokens

_OPEN = "/grpc.health.v1.Health/"  # those who ask for health have no token


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Denies calls without a known token.

    The handler that denies streams in both directions, whatever was called: one that takes a single message would wait
    for it, and callers who never send one could fill the server.

    Args:
        tokens: Tell the owners of calls.
        denied: Hears of each call that is denied, by its method.
    """

    def __init__(self, tokens: Tokens, denied: Callable[[str], None] = lambda _: None) -> None:
        self._tokens, self._denied = tokens, denied
        self._deny: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(_deny)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Hands the call on, or denies it."""
        open_to_all = handler_call_details.method.startswith(_OPEN)
        if open_to_all or self._tokens.owner(handler_call_details.invocation_metadata) is not None:
            return await continuation(handler_call_details)
        self._denied(handler_call_details.method)
        return self._deny


async def _deny(_requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token, or one that is not known here")


def unary(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Makes statuses of the errors of a method that answers with one message."""

    async def answered(self: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method(self, request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the caller hears what it may
            await grpc_errors.abort(context, await self.refused(method.__name__, context, error))

    return answered


def stream(method: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    """Makes statuses of the errors of a method that answers with a stream."""

    async def answered(self: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            async for message in method(self, request, context):
                yield message
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the caller hears what it may
            await grpc_errors.abort(context, await self.refused(method.__name__, context, error))

    return answered
