"""The trace of an audit goes on in the process that audits."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ouzel.errors import InvalidArgument
from ouzel.telemetry import tracing
from ouzel.worker.auditing import frames, process, resident
from ouzel.worker.auditing.frames import Frame
from ouzel.worker.auditing.pool import AuditPool
from ouzel.worker.auditing.task import ResidentOptions, Task
from ouzel_protos.v1 import audit_pb2 as pb
from support.jobs import TESTS
from support.otlp import Collector, collector

TRACE = {"traceparent": f"00-{1:032x}-{2:016x}-01", "tracestate": "vendor=x"}
OPTIONS = ResidentOptions(Path("uploads"), Path("formats"), threads=1)


class Auditor:
    """Audits nothing; a request says in its id whether it is refused."""

    def __init__(self, _options: ResidentOptions) -> None:
        self.seen: list[str] = []

    def audit(self, _task: Task, request: pb.AuditPredictionRequest, _caller: object) -> pb.PredictionAudit:
        self.seen.append(tracing.trace_id())
        if request.request_id == "refuse":
            raise InvalidArgument("no")
        return pb.PredictionAudit(request_id=request.request_id)


def _frame(number: int, name: str, trace: dict[str, str]) -> bytes:
    body = pb.AuditPredictionRequest(request_id=name).SerializeToString()
    return Frame("audit", number, Task("ann", trace=trace).to_dict(), body).encode()


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        tracing.start("ouzel-audits")
        try:
            yield made
        finally:
            tracing.stop()


def test_an_audit_is_a_span_below_that_of_its_call(collected: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "Auditor", Auditor)
    out = io.BytesIO()
    serving = resident.Resident(OPTIONS, out)
    asked = [("good", TRACE), ("refuse", TRACE), ("untraced", {})]
    sent = b"".join(_frame(number, name, trace) for number, (name, trace) in enumerate(asked))
    serving.serve(io.BytesIO(sent))
    serving._threads.shutdown()
    tracing.stop()
    spans = collected.named("audit")
    assert [(int(each.trace, 16), int(each.parent, 16), each.state) for each in spans] == [(1, 2, "vendor=x")] * 2
    assert [(each.service, each.failed, each.attributes.get("error.type")) for each in spans] == [
        ("ouzel-audits", False, None),
        ("ouzel-audits", True, "INVALID_ARGUMENT"),
    ]
    auditor = serving._auditor
    assert isinstance(auditor, Auditor)
    assert auditor.seen == [f"{1:032x}", f"{1:032x}", ""]
    told = io.BytesIO(out.getvalue())
    assert [frame.kind for frame in iter(lambda: frames.read(told), None)] == ["ready", "done", "failed", "done"]


def test_the_pool_hands_the_context_of_the_call_on(collected: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_MODULE", "support.stub_resident")
    monkeypatch.setenv("PYTHONPATH", str(TESTS) + os.pathsep + os.environ.get("PYTHONPATH", ""))

    async def ask() -> dict[str, str]:
        pool = AuditPool(OPTIONS)
        try:
            body = pb.AuditPredictionRequest(request_id="trace").SerializeToString()
            with tracing.span("call", parent=TRACE), pytest.raises(InvalidArgument) as caught:
                await pool.audit(Task("ann"), body, 60)
            return dict(json.loads(str(caught.value)))
        finally:
            await pool.stop()

    told = asyncio.run(ask())
    tracing.stop()
    (call,) = collected.named("call")
    assert told == {"traceparent": f"00-{1:032x}-{call.id}-01", "tracestate": "vendor=x"}
