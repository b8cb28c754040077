"""Lines of logs: one event each, with what makes it findable, whatever a message holds."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ouzel.telemetry import logs, request_ids
from ouzel.telemetry.logs import AsideHandler, JsonFormatter


def record(message: str, *arguments: object, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("ouzel.part", logging.WARNING, __file__, 1, message, arguments, None)
    vars(made).update(more)
    return made


@given(st.text(alphabet=st.characters()))
def test_whatever_is_said_is_one_line_of_json(text: str) -> None:
    line = JsonFormatter().format(record("%s", text))
    assert len(line.splitlines()) == 1
    told = json.loads(line)
    assert told["message"] == text
    assert (told["level"], told["logger"]) == ("WARNING", "ouzel.part")
    assert datetime.fromisoformat(told["time"]).tzinfo == UTC


def test_fields_ids_and_exceptions_are_members() -> None:
    def run() -> str:
        request_ids.begin("abc-1")
        try:
            raise KeyError("gone\nfor good")
        except KeyError as error:
            told = record("failed", fields={"code": "INTERNAL"}, exc_info=(KeyError, error, error.__traceback__))
            return JsonFormatter().format(told)

    lines: list[str] = []
    thread = threading.Thread(target=lambda: lines.append(run()))  # ids do not leave the task that they are of
    thread.start()
    thread.join()
    told = json.loads(lines[0])
    assert (told["request_id"], told["code"]) == ("abc-1", "INTERNAL")
    assert told["exception"].startswith("Traceback")
    assert request_ids.current() == ""
    assert "request_id" not in json.loads(JsonFormatter().format(record("later")))


@given(st.text(max_size=200))
def test_ids_of_callers_are_taken_only_if_they_can_do_no_harm(text: str) -> None:
    kept = request_ids.begin(text)
    harmless = bool(text) and len(text) <= 128 and all(c.isascii() and (c.isalnum() or c in "._:/+=@-") for c in text)
    assert (kept == text) == harmless
    assert kept
    assert len(kept) <= 128
    request_ids._current.set("")


def test_a_log_that_nobody_reads_stops_nobody() -> None:
    """As much as a pipe holds, and more, by far."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        handler = AsideHandler(stream)
        handler.setFormatter(JsonFormatter())
        for _ in range(20_000):
            handler.emit(record("x" * 100))
        waited: list[str] = []

        def read() -> None:
            with os.fdopen(reading) as lines:
                waited.extend(lines)

        reader = threading.Thread(target=read)
        reader.start()
        handler.emit(record("after"))
        handler.close()
    reader.join(30)
    left_out = sum(int(each.split()[0]) for each in waited if "left out" in each)
    written = sum(each.startswith("{") for each in waited)
    assert left_out > 0
    assert written + left_out <= 20_001
    assert written > 1000


def test_what_waits_is_written_at_the_end() -> None:
    out = io.StringIO()
    handler = AsideHandler(out)
    handler.setFormatter(JsonFormatter())
    for number in range(500):
        handler.emit(record("%d", number))
    handler.close()
    assert [json.loads(each)["message"] for each in out.getvalue().splitlines()] == [str(n) for n in range(500)]


def test_an_unknown_format_is_text(monkeypatch) -> None:
    for named, kind in (("json", JsonFormatter), ("text", logging.Formatter), ("xml", logging.Formatter)):
        monkeypatch.setenv(logs.VARIABLE, named)
        assert type(logs.formatter()) is kind
