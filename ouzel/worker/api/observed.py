"""Calls of the worker's services, observed: counted, with the caller's id in the log, and a span where it is wanted."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from ouzel.telemetry import calls, request_ids, tracing
from ouzel.telemetry.calls import ObservedCall
from ouzel.worker.metrics import WorkerMetrics

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_OTHER = "other"


class ObservedInterceptor(grpc.aio.ServerInterceptor):
    """Observes the calls that it hands on; those of methods that are not known are not called by their names.

    Args:
        metrics: That count.
        methods: "/package.Service/Method", all that there are.
    """

    def __init__(self, metrics: WorkerMetrics, methods: frozenset[str]) -> None:
        self._metrics, self._methods = metrics, methods

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Hands the call on."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None or path not in self._methods:
            return handler
        return self._observed(handler, short(path, self._methods))

    def _observed(self, handler: Any, name: str) -> Any:
        method = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        async def one(request: Any, context: Any) -> Any:
            with self._call(name, context):
                return await method(request, context)

        async def many(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._call(name, context):
                async for message in method(request, context):
                    yield message

        sides = ("stream" if each else "unary" for each in (handler.request_streaming, handler.response_streaming))
        make: Any = getattr(grpc, f"{'_'.join(sides)}_rpc_method_handler")
        return make(
            many if inspect.isasyncgenfunction(method) else one,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    @contextmanager
    def _call(self, name: str, context: Any) -> Iterator[None]:
        made = ObservedCall(method=name, headers=calls.read_headers(context.invocation_metadata()))
        context.set_trailing_metadata(((request_ids.HEADER, made.request_id),))
        made.trace()
        with calls.observed(made, self._ended, _attributes) as call:
            try:
                yield
            except grpc.aio.AbortError:
                call.code = _name(context.code())
                raise
            except Exception:
                call.code = "UNKNOWN"  # as gRPC answers it
                raise
            call.code = _name(context.code())

    def _ended(self, call: ObservedCall, seconds: float) -> None:
        self._metrics.ended(call.method, call.code, seconds)


def short(path: str, methods: frozenset[str]) -> str:
    """Service/Method of a path; "other" if there is no such method."""
    return path.rpartition(".")[2] if path in methods else _OTHER


def _name(status: Any) -> str:
    """Of what the context says: a status once one was set, 0 before, or a number."""
    return str(status.name) if isinstance(status, grpc.StatusCode) else _CODES.get(status or 0, "UNKNOWN")


def _attributes(call: ObservedCall) -> tracing.Attributes:
    return {"rpc.system": "grpc", "rpc.method": call.method}
