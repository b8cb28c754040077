"""Spans of OpenTelemetry around calls, and their context on the wire as W3C has it: where its API is installed.

An application that has set up OpenTelemetry sees the client's calls in its traces. For all others nothing is done.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import cache
from typing import Any

Metadata = tuple[tuple[str, str], ...]
_KEYS = ("traceparent", "tracestate")


@contextmanager
def called(method: str, metadata: Metadata) -> Iterator[Metadata]:
    """A span around one attempt of a call; it is not current while the block runs, which may be a generator.

    Args:
        method: Its path: "/ouzel.v1.JobService/GetJob".
        metadata: Of the call.

    Yields:
        The metadata with the span's context. An error that leaves the block is named by its type alone.
    """
    if (api := _api()) is None:
        yield metadata
        return
    service, _, name = method[1:].partition("/")
    span = api.get_tracer("ouzel_client").start_span(
        f"{service.rpartition('.')[2]}/{name}",
        kind=api.SpanKind.CLIENT,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
    )
    try:
        yield (*metadata, *_headers(api, api.set_span_in_context(span)))
    except Exception as error:
        span.set_status(api.Status(api.StatusCode.ERROR))
        span.set_attribute("error.type", type(error).__name__)
        raise
    finally:
        span.end()


def within(metadata: Metadata) -> Metadata:
    """The metadata with the context of the span that is current, for calls that last."""
    return metadata if (api := _api()) is None else (*metadata, *_headers(api, None))


def carry(metadata: Metadata, parts: MutableMapping[str, bytes]) -> None:
    """Puts the context into the parts of a request, too: metadata does not come as far as the process of a model."""
    for key, value in metadata:
        if key in _KEYS:
            parts[key] = value.encode("ascii")


def _headers(api: Any, context: Any) -> Metadata:
    carrier: dict[str, str] = {}
    _propagator().inject(carrier, context)
    return tuple(carrier.items())


@cache
def _api() -> Any:
    try:
        from opentelemetry import trace
    except ModuleNotFoundError:
        return None
    return trace


@cache
def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()
