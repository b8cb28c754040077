"""What gateway and worker tell of each call: an id, a status, a time, and a span where traces are wanted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ouzel.telemetry import request_ids, tracing

_KEYS = frozenset((request_ids.HEADER, *tracing.KEYS))


@dataclass(kw_only=True)
class ObservedCall:
    """A call that is being answered; whoever knows more of it writes it here.

    Attributes:
        method: What is called, of few values.
        headers: Those of `read_headers`.
        request_id: The caller's, or a new one, see `ouzel.telemetry.request_ids`: from here on it is in the log.
        code: Name of the status it ends with.
        since: When it began, in nanoseconds since the epoch.
        span: See `trace`.
    """

    method: str
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    code: str = "OK"
    since: int = field(default_factory=time.time_ns)
    span: Any = None

    def __post_init__(self) -> None:
        self.request_id = request_ids.begin(self.headers.get(request_ids.HEADER))

    def trace(self) -> None:
        """From here on the call is traced, as of its beginning."""
        self.span = tracing.begin(self.method, kind="server", parent=self.headers, since=self.since)

    def failed(self, error: BaseException) -> None:
        """Notes how the call ends; of errors that are not ours, as callers hear it."""
        cancelled = isinstance(error, (asyncio.CancelledError, GeneratorExit))
        self.code = "CANCELLED" if cancelled else getattr(error, "code", "INTERNAL")


C = TypeVar("C", bound=ObservedCall)


@contextmanager
def observed(call: C, ended: Callable[[C, float], None], attributes: Callable[[C], tracing.Attributes]) -> Iterator[C]:
    """A call, as long as the block runs.

    Args:
        call: It may be changed as long as the block runs.
        ended: Told of it at the end, with the seconds that it took.
        attributes: Of its span.
    """
    begun = time.perf_counter()
    try:
        yield call
    except (asyncio.CancelledError, GeneratorExit) as error:
        call.failed(error)
        raise
    finally:
        if call.span is not None:
            _end(call, attributes(call))
        ended(call, time.perf_counter() - begun)


def read_headers(pairs: Iterable[tuple[Any, Any]] | None) -> dict[str, str]:
    """Those of the headers that are of interest here. pairs: (name in lower case, value), texts or bytes."""
    found: dict[str, str] = {}
    for name, value in pairs or ():
        key = name.decode("latin-1") if isinstance(name, bytes) else name
        if key in _KEYS:
            found[key] = value.decode("latin-1") if isinstance(value, bytes) else value
    return found


def _end(call: ObservedCall, attributes: tracing.Attributes) -> None:
    call.span.update_name(call.method)
    call.span.set_attributes({**attributes, "ouzel.code": call.code})
    if call.code != "OK":
        tracing.fail(call.span, call.code)
    call.span.end()
