"""Lines in the log of a process: text for people, or JSON with one object per line.

Libraries log as usual; whoever starts a process calls `configure` once.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from ouzel.telemetry import request_ids, tracing

VARIABLE = "OUZEL_LOG_FORMAT"
TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)
PATTERN = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_WAITING = 10_000  # lines that wait to be written; what comes then is counted, and left out
_LAST = 1.0  # s in which the lines that wait are written at the end


class JsonFormatter(logging.Formatter):
    """One JSON object per event: time, level, logger, message; request_id and trace_id where there are any.

    What a caller of the logger gives as `extra={"fields": {...}}` becomes members of the object. It is ASCII, so that
    no character of a message can end the line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, without its end."""
        values: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        values |= {"request_id": request_id} if (request_id := request_ids.current()) else {}
        values |= {"trace_id": trace_id} if (trace_id := tracing.trace_id()) else {}
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            values |= fields
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return json.dumps(values, default=str)


def chosen() -> str:
    """The format that the environment names; text if it names none that there is."""
    named = os.environ.get(VARIABLE, TEXT)
    return named if named in FORMATS else TEXT


def formatter(pattern: str = PATTERN) -> logging.Formatter:
    """The formatter of the environment's format; pattern is that of lines of text."""
    return JsonFormatter() if chosen() == JSON else logging.Formatter(pattern)


def event(message: str, *, name: str) -> str:
    """A line for the standard output, which may end in the same file as the log: as it is, or as JSON.

    Args:
        message: What a person would read.
        name: Of the logger that it stands for.
    """
    if chosen() == TEXT:
        return message
    return JsonFormatter().format(logging.LogRecord(name, logging.INFO, "", 0, message, None, None))


def configure(pattern: str = PATTERN, *, log_format: str | None = None) -> None:
    """Has everything from INFO on written to the standard error.

    Args:
        pattern: Of lines of text.
        log_format: One of FORMATS, which processes that this one starts take, too; None is that of the environment.
    """
    _configure(logging.StreamHandler(), pattern, log_format)


def configure_aside(pattern: str = PATTERN, *, log_format: str | None = None) -> AsideHandler:
    """As `configure`, for processes with one event loop: a thread writes, and a reader who stops reading stops nobody.

    Returns:
        What is to be closed at the end.
    """
    handler = AsideHandler(sys.stderr)
    _configure(handler, pattern, log_format)
    return handler


def _configure(handler: logging.Handler, pattern: str, log_format: str | None) -> None:
    if log_format is not None:
        os.environ[VARIABLE] = log_format
    handler.setFormatter(formatter(pattern))
    root = logging.getLogger()
    for each in root.handlers[:]:
        root.removeHandler(each)
    root.addHandler(handler)
    root.setLevel(logging.INFO)


class AsideHandler(logging.Handler):
    """Formats in the thread that logs, where the ids of the call are known, and writes in one of its own.

    Args:
        stream: Where the lines go.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(_WAITING)
        self._left_out = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hands a line to the thread that writes; one that finds no room is left out."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._left_out += 1
        except Exception:  # noqa: BLE001 - as all handlers
            self.handleError(record)

    def close(self) -> None:
        """Writes what waits, for a second at most."""
        if self._thread.is_alive():
            with suppress(queue.Full):
                self._lines.put(None, timeout=_LAST)
            self._thread.join(_LAST)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            told, self._left_out = self._left_out, 0
            with suppress(OSError, ValueError):  # nobody reads any more
                if told:
                    self._stream.write(f"{told} lines were left out: the log was not read\n")
                self._stream.write(f"{line}\n")
                if self._lines.empty():
                    self._stream.flush()
