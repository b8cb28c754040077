"""The rolling job with a worker and a clock that are fakes: what fails, and how often it is tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import grpc
import pytest

from ouzel.databases.sqlite import SqliteDatabase
from ouzel.endpoints.clients.tensors import tensor
from ouzel.errors import DataLoss, OuzelError, TooLarge, Unavailable
from ouzel.ledger import Ledger
from ouzel.ledger.recorder import Event as LogEvent
from ouzel.ledger.recorder import Recorder as LogRecorder
from ouzel.sink import alerts, counts
from ouzel.sink.asking import AskAgain, Refused, Worker, WorkerDown
from ouzel.sink.auditor import MOST_TRIES, Auditor
from ouzel.sink.clock import Clock
from ouzel.sink.cloudevents import Event
from ouzel.sink.config import Limits, SinkConfig
from ouzel.sink.detector import State
from ouzel.sink.file import read
from ouzel.sink.recording import REQUEST, RESPONSE, Arrival, Recorder
from ouzel.sink.schema import SINK
from ouzel_protos.v1 import audit_pb2 as pb
from sink.test_bodies import FP32, LOGITS, OIP, PICTURES, body
from sink.test_recording import FakeClock
from support.sink import LABELS, answer, request_body, response_body, write

Asked = Callable[[pb.AuditPredictionRequest], pb.PredictionAudit]


class FakeAuditing:
    """A fake: answers as a test says."""

    def __init__(self, behaviour: Asked) -> None:
        self.behaviour, self.asked = behaviour, 0

    def audit(self, request: pb.AuditPredictionRequest) -> pb.PredictionAudit:
        self.asked += 1
        return self.behaviour(request)

    def close(self) -> None: ...


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    made = SqliteDatabase(tmp_path / "sink.db", SINK)
    yield made
    made.close()


def audited(
    database: SqliteDatabase,
    config: SinkConfig,
    behaviour: Asked,
    pairs: list[tuple[bytes, bytes]],
    reading: SinkConfig | None = None,
) -> tuple[dict[str, dict[str, int]], FakeAuditing, Auditor]:
    """The counts once nothing is queued; time passes quickly. reading: of the auditor, if it is another file."""
    clock = FakeClock()
    recorder = Recorder(database, cast(Clock, clock), Limits())
    for number, bodies in enumerate(pairs):
        for half, data in zip((REQUEST, RESPONSE), bodies, strict=True):
            recorder.record(Arrival(config.services[0], Event(f"{number}", "/", "t", data=data), half)).result()
    worker = FakeAuditing(behaviour)
    auditor = Auditor(database, cast(Clock, clock), reading or config, worker)
    auditor.start()
    deadline = time.monotonic() + 30
    while counts.totals(database.read(counts.read))[counts.QUEUED]:
        assert time.monotonic() < deadline
        clock.time += 100
        time.sleep(0.02)
    auditor.close()
    return database.read(counts.read)["farm"], worker, auditor


def raises(error: Exception) -> Asked:
    def behaviour(request: pb.AuditPredictionRequest) -> pb.PredictionAudit:
        raise error

    return behaviour


PAIR = (request_body(), response_body())


def test_what_never_ends_is_tried_six_times(database: SqliteDatabase, tmp_path: Path) -> None:
    found, worker, auditor = audited(database, read(write(tmp_path)), raises(AskAgain("INTERNAL: x")), [PAIR])
    assert worker.asked == MOST_TRIES == 6
    assert found["failed"] == {"tries": 2}
    assert "INTERNAL: x" in auditor.failures[0]


def test_what_is_refused_is_not_tried_again(database: SqliteDatabase, tmp_path: Path) -> None:
    found, worker, _ = audited(database, read(write(tmp_path)), raises(Refused("NOT_FOUND: farm")), [PAIR] * 2)
    assert (worker.asked, found["failed"]) == (2, {"refused": 4})
    row = database.read(lambda c: c.one("SELECT row FROM results"))
    assert row is not None
    assert '"claimed": "goat"' in row[0]


def test_a_fault_of_ours_does_not_stop_the_queue(database: SqliteDatabase, tmp_path: Path) -> None:
    def behaviour(request: pb.AuditPredictionRequest) -> pb.PredictionAudit:
        if request.request_id == "0":
            raise ZeroDivisionError
        return answer(request)

    found, _, _ = audited(database, read(write(tmp_path)), behaviour, [PAIR] * 2)
    assert (found["failed"], found["audited"]) == ({"internal": 2}, {"": 2})


def test_a_service_that_left_the_file(database: SqliteDatabase, tmp_path: Path) -> None:
    config = read(write(tmp_path))
    file = write(tmp_path / "other")
    file.write_text(file.read_text().replace("[services.farm]", '[services.barn]\nbodies = "farm"'))
    found, worker, _ = audited(database, config, answer, [PAIR], reading=read(file))
    assert (worker.asked, found["failed"]) == (0, {"service": 2})


def test_a_worker_that_is_down_takes_no_tries(database: SqliteDatabase, tmp_path: Path) -> None:
    downs = iter([WorkerDown("it is down")])

    def behaviour(request: pb.AuditPredictionRequest) -> pb.PredictionAudit:
        for error in downs:
            raise error
        return answer(request)

    found, worker, _ = audited(database, read(write(tmp_path)), behaviour, [PAIR])
    assert (worker.asked, found["audited"]) == (2, {"": 2})


def test_a_worker_whose_log_takes_no_entries_is_down(tmp_path: Path) -> None:
    """It would refuse all that is queued."""
    worker = Worker(read(write(tmp_path)))

    def failing(error: Exception, event: LogEvent) -> Exception:
        log = cast(Ledger, SimpleNamespace(append=Mock(side_effect=error)))
        with pytest.raises(OuzelError) as caught:
            LogRecorder(None, log).append(event)
        code = grpc.StatusCode[caught.value.code]
        return worker._meaning(code, str(caught.value), lambda: "")

    event = LogEvent("audit", {})
    assert isinstance(failing(DataLoss("a fork"), event), WorkerDown)
    assert isinstance(failing(Unavailable("the database does not answer"), event), WorkerDown)
    assert isinstance(failing(TooLarge("facts: too large"), event), Refused)


def test_a_model_that_crops_is_not_believed_about_tensors(database: SqliteDatabase, tmp_path: Path) -> None:
    """The tensor is what the service saw; a model that looks at a part of it was asked about something else."""
    endpoints = OIP.format(labels=list(LABELS), layout="NCHW", datatype="FP32", channels="RGB", values=FP32)
    config = read(write(tmp_path, endpoints=endpoints))
    how = config.services[0].bodies.protocol
    pair = (
        body("inputs", "x", tensor(PICTURES, how.input), "FP32"),  # type: ignore[union-attr]
        body("outputs", "y", LOGITS, "FP32"),
    )
    pairs = [pair, (pair[0], body("outputs", "y", LOGITS[:1], "FP32"))]
    seen: list[str] = []

    def behaviour(request: pb.AuditPredictionRequest) -> pb.PredictionAudit:
        seen.append(request.claimed.label)
        found = answer(request)
        found.view.image_width, found.view.image_height = 12, 16
        found.view.right, found.view.bottom = 12, 14.0 if len(seen) == 1 else 16.0
        return found

    found, _, auditor = audited(database, config, behaviour, [*pairs, pair])
    assert found["failed"] == {"refused": 2, "request": 2}
    assert found["audited"] == {"": 2}
    assert any("crops" in each for each in auditor.failures)
    assert any("scores of 1 pictures, the request 3" in each for each in auditor.failures)


def test_what_is_fixed_beforehand_is_stored_and_ends_old_alerts(database: SqliteDatabase, tmp_path: Path) -> None:
    config = read(write(tmp_path, "rate = 1.0\n[services.farm.alert]\nrun_length = 100"))
    audited(database, config, lambda request: answer(request, agrees=False), [PAIR] * 12)
    assert database.read(lambda c: c.all("SELECT detector, cleared FROM alerts")) == [("disagreement", None)]
    other = read(write(tmp_path, "rate = 1.0\n[services.farm.margins]\nflip = 0.3"))
    later = Auditor(database, Clock(database), other, FakeAuditing(answer))
    later.start()
    later.close()
    assert database.read(lambda c: c.all("SELECT cleared_by FROM alerts")) == [("another design",)]
    assert len(database.read(lambda c: c.all("SELECT sha256 FROM designs"))) == 2


def test_a_design_that_comes_back_starts_anew(database: SqliteDatabase, tmp_path: Path) -> None:
    """With what was left of it, its detector would wait for evidence that clears an alert that is cleared already."""
    files = [write(tmp_path / str(rate), f"rate = {rate}\nalert = {{ run_length = 100 }}") for rate in (1.0, 0.5)]
    first, second = map(read, files)

    def disagrees(request: pb.AuditPredictionRequest) -> pb.PredictionAudit:
        return answer(request, agrees=False)

    audited(database, first, disagrees, [PAIR] * 12)
    for config in (second, first):
        auditor = Auditor(database, cast(Clock, FakeClock()), config, FakeAuditing(answer))
        auditor.start()
        auditor.close()
        assert database.read(lambda c: alerts.listed(c, open_only=True)) == []
        (service,) = config.services
        assert database.read(lambda c: alerts.load(c, "farm", service.sha256(), "disagreement")) == State()  # noqa: B023
