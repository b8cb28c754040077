"""The worker's methods over gRPC: every call is handed on, with the caller's tenant as its owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from ouzel import grpc_errors
from ouzel.errors import DeadlineExceeded, InvalidArgument
from ouzel.gateway.access.caller import Caller
from ouzel.gateway.door import Door
from ouzel.gateway.grpc_calls import Context, check_size, identified, observed
from ouzel.gateway.observing.observer import Observed
from ouzel.gateway.worker.methods import METHODS, Method
from ouzel.gateway.worker.relay import Relay, WorkerError, whole


class WorkerProxy(grpc.GenericRpcHandler):
    """Handlers of the worker's methods; whatever their kind, they read and write bytes one by one.

    Args:
        door: Who may call.
        relay: To the worker.
        seconds: In which the first message must have come. The worker bounds the time between later ones.
    """

    def __init__(self, door: Door, relay: Relay, seconds: float) -> None:
        self._door, self._relay, self._seconds = door, relay, seconds

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a call; None for methods that are not the worker's."""
        method = METHODS.get(handler_call_details.method)
        return None if method is None else grpc.stream_stream_rpc_method_handler(self._answering(method))

    def _answering(self, method: Method) -> Any:
        async def answer(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            name = f"{method.service}/{method.name}"
            with self._door.call(method.path), observed(self._door, name, context) as call:
                try:
                    call.known(caller := identified(self._door, context))
                    with self._door.admit(caller, method.role):
                        sent = self._sent(method, requests, caller, call)
                        async with aclosing(
                            self._relay.call(method, caller, sent, context.time_remaining())
                        ) as answers:
                            async for content in whole(self._door.under_way, answers):
                                call.sent += len(content)
                                yield content
                except grpc.aio.AbortError:
                    raise
                except WorkerError as error:
                    call.code = error.code.name
                    details = ((grpc_errors.DETAILS, error.details),) if error.details else ()
                    await context.abort(error.code, error.words, (*context.trailing_metadata(), *details))
                except Exception as error:  # noqa: BLE001 - the caller hears what it may
                    call.failed(error)
                    await grpc_errors.abort(context, error)

        return answer

    async def _sent(
        self, method: Method, requests: AsyncIterator[bytes], caller: Caller, call: Observed
    ) -> AsyncIterator[bytes]:
        iterator = aiter(requests)
        try:
            async with asyncio.timeout(self._seconds):
                first = await anext(iterator, None)
        except TimeoutError:
            raise DeadlineExceeded(f"the request did not come within {self._seconds:g} s") from None
        if first is None:
            if not method.streams_requests:
                raise InvalidArgument("the call ended without a request")
            return
        call.received += len(first)
        check_size(len(first), caller)
        yield first
        if not method.streams_requests:
            return
        async for content in iterator:
            call.received += len(content)
            check_size(len(content), caller)
            yield content
