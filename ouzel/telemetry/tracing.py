"""Traces of OpenTelemetry, off unless the standard variables ask for them; without them a span costs next to nothing.

The context travels as W3C has it: `traceparent`, and `tracestate` if there is one. Attributes hold names of
methods, models and stages, sizes and codes: never images, texts of callers, or who they are.

References:
    W3C, "Trace Context": https://www.w3.org/TR/trace-context/
    OpenTelemetry, "Environment Variable Specification".
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

PARENT, STATE = "traceparent", "tracestate"
KEYS = (PARENT, STATE)
LONGEST = {PARENT: 128, STATE: 512}  # characters; W3C asks to hand on so much of a state, and has 55 of a parent today
Attributes = Mapping[str, str | int | float | bool]
_EXTRA = "pip install 'ouzel[tracing]'"
_NOTHING: AbstractContextManager[Any] = nullcontext()
_NO_ATTRIBUTES: Attributes = {}
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_log = logging.getLogger(__name__)


class _Process:
    """What `start` has set up in this process."""

    provider: Any = None
    tracer: Any = None


_process = _Process()


def wanted(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the variables ask for traces: an exporter, or an address of one."""
    given = os.environ if environment is None else environment
    if given.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = given.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    return exporter != "none" and bool(exporter or any(given.get(name) for name in _ENDPOINTS))


def start(part: str) -> None:
    """Begins to trace this process if the environment asks for it. Whoever forks calls it in the child.

    Args:
        part: Name of the service, if OTEL_SERVICE_NAME does not say it.
    """
    if _process.tracer is not None or not wanted():
        return
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        _log.warning("traces are asked for, and OpenTelemetry is not installed; run `%s`", _EXTRA)
        return
    try:
        exporter = _exporter()
    except (ValueError, ModuleNotFoundError) as error:
        _log.warning("there are no traces: %s", error)
        return
    name = os.environ.get("OTEL_SERVICE_NAME") or part
    _process.provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=True)
    _process.provider.add_span_processor(BatchSpanProcessor(exporter))
    _process.tracer = _process.provider.get_tracer("ouzel")


def stop() -> None:
    """Sends what has not been sent."""
    if _process.provider is not None:
        _process.provider.shutdown()
    _process.provider = _process.tracer = None


def on() -> bool:
    """Whether this process traces."""
    return _process.tracer is not None


def span(
    name: str,
    *,
    kind: str = "internal",
    parent: Mapping[str, str] | None = None,
    attributes: Attributes = _NO_ATTRIBUTES,
) -> AbstractContextManager[Any]:
    """A span around a block, current in it. An error that leaves the block is named by its type alone.

    Args:
        name: Of few values.
        kind: "internal", "server", "client", "consumer".
        parent: A `traceparent`, and perhaps a `tracestate`, of elsewhere; None is the current span.
        attributes: See above.

    Returns:
        A context; its value is the span, or None without tracing.
    """
    return _NOTHING if _process.tracer is None else _spanned(name, kind, parent, attributes)


@contextmanager
def _spanned(name: str, kind: str, parent: Mapping[str, str] | None, attributes: Attributes) -> Iterator[Any]:
    with _process.tracer.start_as_current_span(
        name,
        context=None if parent is None else _extracted(parent),
        kind=_kind(kind),
        attributes=dict(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as made:
        try:
            yield made
        except Exception as error:
            fail(made, getattr(error, "code", type(error).__name__))
            raise


def begin(
    name: str, *, kind: str, parent: Mapping[str, str], since: int, attributes: Attributes = _NO_ATTRIBUTES
) -> Any:
    """A span that is current from here to the end of the task, and is ended by `end`.

    Args:
        name: Of few values.
        kind: As that of `span`.
        parent: Of elsewhere.
        since: When it began, in nanoseconds since the epoch.
        attributes: See above.

    Returns:
        The span; None without tracing.
    """
    if _process.tracer is None:
        return None
    from opentelemetry import context, trace

    outer = _extracted(parent)
    made = _process.tracer.start_span(name, outer, _kind(kind), attributes=dict(attributes), start_time=since)
    context.attach(trace.set_span_in_context(made))
    return made


def finished(
    name: str, *, parent: Any, begun: int, ended: int, kind: str = "internal", attributes: Attributes = _NO_ATTRIBUTES
) -> Any:
    """A span of what is over.

    Args:
        name: Of few values.
        parent: A span of `finished`, or a mapping as that of `span`.
        begun: Nanoseconds since the epoch.
        ended: Likewise.
        kind: As that of `span`.
        attributes: See above.

    Returns:
        The span; None without tracing.
    """
    if _process.tracer is None:
        return None
    from opentelemetry import trace

    outer = _extracted(parent) if isinstance(parent, Mapping) else trace.set_span_in_context(parent)
    made = _process.tracer.start_span(name, outer, _kind(kind), attributes=dict(attributes), start_time=begun)
    made.end(ended)
    return made


def fail(made: Any, code: Any) -> None:
    """Says of a span that it failed, with the name of an error and nothing else."""
    if made is not None:
        from opentelemetry.trace import Status, StatusCode

        made.set_status(Status(StatusCode.ERROR))
        made.set_attribute("error.type", str(code))


def carried() -> dict[str, str]:
    """The current context as headers: `traceparent`, and `tracestate` if there is one. Empty without tracing."""
    carrier: dict[str, str] = {}
    if _process.tracer is not None:
        _propagator().inject(carrier)
    return carrier


def read(values: Mapping[str, Any]) -> dict[str, str]:
    """The context among headers, metadata or parts of a request: for `parent`.

    Args:
        values: Texts, or bytes. What is too long, or something else, is passed over: it is no reason to refuse a call.
    """
    found: dict[str, str] = {}
    for key, longest in LONGEST.items():
        value = values.get(key)
        text = bytes(value).decode("latin-1") if isinstance(value, (bytes, bytearray)) else value
        if isinstance(text, str) and 0 < len(text) <= longest:
            found[key] = text
    return found if PARENT in found else {}


def trace_id() -> str:
    """Of the current span, 32 hexadecimal digits; "" without one."""
    if _process.tracer is None:
        return ""
    from opentelemetry import trace

    known = trace.get_current_span().get_span_context()
    return f"{known.trace_id:032x}" if known.is_valid else ""


def _extracted(parent: Mapping[str, str]) -> Any:
    """A context of nothing but that; what is no `traceparent` begins a new trace."""
    from opentelemetry.context import Context

    return _propagator().extract(parent, Context())


def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()


def _kind(name: str) -> Any:
    from opentelemetry.trace import SpanKind

    return SpanKind[name.upper()]


def _exporter() -> Any:
    """Raises ValueError for one that there is not."""
    name = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if name != "otlp":
        raise ValueError(f"OTEL_TRACES_EXPORTER: {name!r:.40} is not otlp, console or none")
    protocol = next(filter(None, (os.environ.get(variable) for variable in _PROTOCOLS)), "http/protobuf")
    if protocol != "http/protobuf":
        raise ValueError(f"{_PROTOCOLS[1]}: {protocol!r:.40} is not http/protobuf, which is all that is spoken here")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
