"""Traces are off unless the standard variables ask for them, and then go where these say."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ouzel.telemetry import tracing
from support.otlp import collector

PROGRAM = """
import sys
from ouzel.telemetry import tracing
from ouzel.telemetry.phases import Phases
tracing.start("ouzel-test")
parent = {"traceparent": sys.argv[1]}
with tracing.span("outer", kind="server", parent=parent, attributes={"ouzel.model": "m"}) as outer:
    print(tracing.carried().get("traceparent", "-"), tracing.trace_id() or "-")
    phases = Phases()
    for name in ("one", "one", "two"):
        phases.enter(name)
    phases.close()
    try:
        with tracing.span("inner"):
            raise ValueError("a name of a person")
    except ValueError:
        pass
tracing.stop()
print(sorted(name for name in sys.modules if name.startswith("opentelemetry"))[:1])
"""
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def run(environment: dict[str, str], parent: str = PARENT) -> tuple[list[str], str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    words = [sys.executable, "-c", PROGRAM, parent]
    done = subprocess.run(words, env=kept | environment, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
    ],
)
def test_the_standard_variables_decide(given: dict[str, str], wanted: bool) -> None:
    assert tracing.wanted(given) is wanted


def test_without_them_nothing_is_loaded() -> None:
    assert run({}) == (["- -", "[]"], "")


def test_spans_are_sent_below_their_parent_and_tell_no_texts() -> None:
    with collector() as collected:
        lines, _ = run(collected.environment)
    (outer,) = collected.named("outer")
    assert lines[0] == f"00-{outer.trace}-{outer.id}-01 {outer.trace}"
    assert (outer.trace, outer.parent) == (PARENT[3:35], PARENT[36:52])
    assert outer.service == "ouzel-test"
    assert [each.parent for name in ("one", "two", "inner") for each in collected.named(name)] == [outer.id] * 3
    (inner,) = collected.named("inner")
    assert inner.failed
    assert inner.attributes == {"error.type": "ValueError"}


def test_what_is_no_parent_begins_a_trace() -> None:
    for parent in ("", "00-0-0-01", "x" * 60, PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)):
        with collector() as collected:
            run(collected.environment, parent)
        (outer,) = collected.named("outer")
        assert outer.parent == ""


def test_who_is_not_sampled_is_not_sent() -> None:
    with collector() as collected:
        lines, _ = run(collected.environment, PARENT[:-2] + "00")
    assert lines[0].startswith(f"00-{PARENT[3:35]}-")
    assert collected.spans == []


def test_what_cannot_be_done_is_said_and_ends_nothing() -> None:
    for given, words in (
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: 'zipkin'"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf, which is all"),
    ):
        lines, said = run(given)
        assert words in said
        assert lines[0] == "- -"
    # As where the extra is not installed.
    hidden = PROGRAM.replace("import sys\n", "import sys\nsys.modules['opentelemetry.sdk.resources'] = None\n", 1)
    environment = os.environ | {"OTEL_TRACES_EXPORTER": "otlp"}
    words = [sys.executable, "-c", hidden, PARENT]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'ouzel[tracing]'" in done.stderr
    assert done.stdout.startswith("- -")
