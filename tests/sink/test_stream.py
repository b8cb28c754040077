"""A stream of events through a real sink that is killed in the middle; the worker is a fake.

`make stories` sends ten thousand; otherwise it is a third of them, of which as many are audited.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from ouzel.databases.sqlite import SqliteDatabase
from ouzel.sink.alerts import outcome_of
from ouzel.sink.config import SinkConfig
from ouzel.sink.delays import delay
from ouzel.sink.file import read
from ouzel.sink.results import row_of
from ouzel.sink.sampling import drawn, pair_of
from ouzel.sink.schema import SINK
from ouzel_protos.v1 import audit_pb2 as pb
from support.sink import (
    REQUEST,
    RESPONSE,
    Sender,
    answer,
    fake_worker,
    request_body,
    response_body,
    sink,
    write,
)

BROKEN_AT = 0.6  # of the stream: from here on predictions rest on backgrounds
SENDERS = 16


@dataclass(frozen=True)
class Sent:
    identity: str
    kind: str
    body: bytes


def planted(pairs: int) -> Callable[[pb.AuditPredictionRequest], pb.PredictionAudit]:
    """Backgrounds turn 85 % of the predictions that came late, and 2 % of the others: told from the id."""

    def audit(request: pb.AuditPredictionRequest) -> pb.PredictionAudit:
        number = int(request.request_id.partition("-")[2])
        share = 0.85 if number >= pairs * BROKEN_AT else 0.02
        return answer(request, background=random.Random(number).random() < share)

    return audit


def stream(pairs: int, seed: int) -> list[Sent]:
    """Pairs in order but for some reordering, with halves that never come and duplicates."""
    rng = random.Random(seed)
    timed: list[tuple[float, Sent]] = []
    body, said = request_body(), response_body()
    for number in range(pairs):
        identity = f"pair-{number}"
        halves = [Sent(identity, REQUEST, body), Sent(identity, RESPONSE, said)]
        if rng.random() < 0.04:
            halves.pop(rng.randrange(2))
        times = [number + rng.uniform(0, 8) for _ in halves]
        for half, at in zip(halves, times, strict=True):
            timed.append((at, half))
            if rng.random() < 0.1:
                timed.append((at + rng.uniform(0, 40), half))
    return [sent for _, sent in sorted(timed, key=lambda each: each[0])]


class Senders:
    """Send a stream in order to a sink that may be replaced, several at a time, each until it is acknowledged."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.again = 0  # attempts of which nobody knows whether they were counted
        self._lock = threading.Lock()
        self._local = threading.local()

    def send(self, sent: Sent) -> None:
        message = Sender.message(sent.kind, sent.identity, sent.body)
        while True:
            try:
                if not hasattr(self._local, "sender"):
                    self._local.sender = Sender(self.port)
                self._local.sender.send(message)
                return
            except OSError:
                with self._lock:
                    self.again += 1
                if hasattr(self._local, "sender"):
                    self._local.sender.close()
                    del self._local.sender
                time.sleep(0.05)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("pairs", "rate"), [(1500, 0.36), pytest.param(4600, 0.12, marks=pytest.mark.story)])
def test_events_are_counted_exactly_and_the_change_is_seen(pairs: int, rate: float, tmp_path: Path) -> None:
    """Some senders meet a sink that is being killed; what they send again is counted once."""
    file = write(tmp_path, f"rate = {rate}\n[services.farm.alert]\nrun_length = 10000", "[sink.limits]\ndeadline_s = 8")
    events = stream(pairs, 1)
    assert len(events) > 2.06 * pairs  # with duplicates
    with fake_worker(planted(pairs), delay=0.005) as worker:
        with sink(file, worker) as first:
            senders = Senders(first.port)
            first.pair("warm-0")  # its audit loads what an audit needs
            first.wait(lambda each: each["outcomes"]["audited"] + each["outcomes"]["unsampled"] >= 2)
            before = psutil.Process(first.process.pid).memory_info().rss
            with ThreadPoolExecutor(SENDERS) as pool:
                list(pool.map(senders.send, events[: len(events) // 2]))
                middle = first.status()
                grown = psutil.Process(first.process.pid).memory_info().rss - before
                rest = pool.map(senders.send, events[len(events) // 2 :])
                time.sleep(0.5)
                first.stop(kill=True)
                with sink(file, worker) as second:
                    senders.port = second.port
                    list(rest)
                    found = second.wait(
                        lambda each: not (each["outcomes"]["waiting"] or each["outcomes"]["queued"]), 90
                    )
                    grown_later = psutil.Process(second.process.pid).memory_info().rss - before
                    report = second.ask("GET", "/report")[1]
                    assert second.stop() == 0
        asked = Counter(each.request_id for each in worker.asked)
    assert middle["outcomes"]["audited"] > 0
    check_counts(read(file), tmp_path, events, found, senders.again)
    check_alert(read(file), tmp_path, pairs * BROKEN_AT)
    # Pairs whose answer was lost with the process are asked for again, and counted once.
    assert sum(asked.values()) - len(asked) <= 1
    assert max(grown, grown_later) < 60 * 2**20
    assert '"rests_on_background"' in report


def check_counts(config: SinkConfig, folder: Path, events: list[Sent], found: dict[str, Any], again: int) -> None:
    """Told from the events and the salt alone."""
    sent = Counter((each.identity, each.kind) for each in events) + Counter(
        {("warm-0", REQUEST): 1, ("warm-0", RESPONSE): 1}
    )
    database = SqliteDatabase(folder / "state" / "sink.db", SINK)
    try:
        salt = bytes(database.read(lambda c: c.all("SELECT value FROM meta WHERE name = 'salt'"))[0][0])
        stored = {each[0] for each in database.read(lambda c: c.all("SELECT id FROM results"))}
        rows = database.read(lambda c: c.all("SELECT COUNT(*) FROM results"))[0][0]
    finally:
        database.close()
    (service,) = config.services
    halves = Counter(identity for identity, _ in sent)
    sampled = {identity for identity in halves if drawn(_pair(service.name, identity), salt, service.rate)}
    whole = {identity for identity in sampled if halves[identity] == 2}
    outcomes = found["outcomes"]
    assert stored == whole
    assert rows == len(whole)
    assert outcomes["audited"] == 2 * len(whole)
    assert outcomes["unsampled"] == sum(n for identity, n in halves.items() if identity not in sampled)
    assert outcomes["half"] == len(sampled) - len(whole)
    assert outcomes["dropped"] == outcomes["failed"] == outcomes["malformed"] == outcomes["ignored"] == 0
    least = sum(sent.values()) - len(sent)
    assert least <= outcomes["duplicate"] <= least + again  # an answer that was lost: sent again, and known


def _pair(service: str, identity: str) -> bytes:
    from ouzel.sink.cloudevents import Event

    return pair_of(service, Event(identity, "/", REQUEST, extensions={"component": "predictor", "endpoint": "default"}))


def check_alert(config: SinkConfig, folder: Path, broken: float) -> None:
    """Raised once, after the change, within the samples that were stated."""
    database = SqliteDatabase(folder / "state" / "sink.db", SINK)
    try:
        rows = database.read(lambda c: c.all("SELECT id FROM results ORDER BY number"))
        raised = database.read(lambda c: c.all("SELECT detector, sample, cleared FROM alerts"))
    finally:
        database.close()
    late = [int(identity.partition("-")[2]) >= broken for (identity,) in rows]
    stated = delay(config.services[0].detectors[0], 0.85)
    assert stated is not None
    assert len(raised) == 1, raised
    detector, sample, cleared = raised[0]
    assert (detector, cleared) == ("background", None)
    assert any(late[:sample])
    # What waited when the sink was killed is audited among what came later: the change is over with the last of it.
    changed = max(number for number, after in enumerate(late[:sample], 1) if not after)
    assert sample <= changed + stated.within


class Hook(BaseHTTPRequestHandler):
    """A fake of the operator's address, which refuses the first attempt."""

    received: list[tuple[str, str, str]] = []  # noqa: RUF012 - of the one test that uses it

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.received.append((self.path, self.headers["authorization"], body))
        self.send_response(503 if len(self.received) == 1 else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.mark.timeout(120)
def test_alerts_are_sent_cleared_and_raised_again(tmp_path: Path) -> None:
    import json

    from click.testing import CliRunner

    from ouzel.cli.sink import sink as command

    agree = threading.Event()
    hook = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    own = f'[sink.notify]\nurl = "http://127.0.0.1:{hook.server_port}/alerts?key=1"\nbearer_token = "of-the-operator"'
    file = write(tmp_path, "rate = 1.0\n[services.farm.alert]\nrun_length = 100", own)
    try:
        with fake_worker(lambda request: answer(request, agrees=agree.is_set())) as worker, sink(file, worker) as found:
            for number in range(20):
                found.pair(f"a-{number}")
            (alert,) = found.wait(lambda each: bool(each["alerts"]))["alerts"]
            assert (alert["number"], alert["detector"]) == (1, "disagreement")
            found.wait(lambda each: not each["outcomes"]["queued"])
            assert len(found.status()["alerts"]) == 1
            arguments = [str(file), "--state", str(tmp_path / "state"), "--clear", "1"]
            assert "alert 1 of farm is cleared" in CliRunner().invoke(command, arguments).output
            again = CliRunner().invoke(command, arguments)
            assert (again.exit_code, "cleared before" in again.output) == (1, True)
            assert not found.status()["alerts"]
            for number in range(20):
                found.pair(f"b-{number}")
            assert found.wait(lambda each: bool(each["alerts"]))["alerts"][0]["number"] == 2
            agree.set()
            for number in range(60):
                found.pair(f"c-{number}")
            found.wait(lambda each: not each["alerts"] and not each["outcomes"]["queued"])
            report = json.loads(found.ask("GET", "/report")[1])
            assert [each["cleared_by"] for each in report["alerts"]] == ["evidence", "operator"]
            deadline = time.monotonic() + 20
            while len(Hook.received) < 4 and time.monotonic() < deadline:
                time.sleep(0.05)
    finally:
        hook.shutdown()
    assert {(path, token) for path, token, _ in Hook.received} == {("/alerts?key=1", "Bearer of-the-operator")}
    told = [json.loads(body) for *_, body in Hook.received]
    assert told[0] == told[1]  # it was refused once
    assert [each["type"].rpartition(".")[2] for each in told[1:]] == ["raised", "raised", "cleared"]
    assert "of-the-operator" not in found.log.read_text()
    assert str(hook.server_port) not in found.log.read_text()


@pytest.mark.timeout(120)
def test_a_worker_that_is_down_is_waited_for(tmp_path: Path) -> None:
    def behaviour(request: pb.AuditPredictionRequest) -> pb.PredictionAudit:
        if request.request_id == "bad":
            raise ValueError("claimed: is not a class")
        return answer(request)

    with fake_worker(behaviour) as worker:
        file = write(tmp_path)
        with sink(file, worker) as found:
            worker.stop()
            for number in range(5):
                found.pair(f"a-{number}")
            down = found.wait(lambda each: each["worker"] != "ok")
            assert down["outcomes"]["queued"] == 10
            assert "UNAVAILABLE" in down["worker"]
            found.stop(kill=True)
        with sink(file, worker) as found:
            found.pair("bad")
            found.pair("unreadable", response=b'{"predictions": [[NaN, 0.5, 0.5]]}')
            found.pair("a-2")
            worker.start()
            ended = found.wait(lambda each: not each["outcomes"]["queued"])
            assert ended["outcomes"]["audited"] == 10
            assert ended["outcomes"]["duplicate"] == 2
            assert ended["services"]["farm"]["counts"]["failed"] == {"refused": 2, "response": 2}
            assert any("claimed: is not a class" in each for each in ended["failures"])
            assert found.stop() == 0
    (request, *_) = [each for each in worker.asked if each.request_id == "a-0"]
    assert (request.endpoint, request.claimed.label, len(request.boxes)) == ("farm", "label:goat", 1)
    assert request.options.steps == 0
    assert next((each.label, each.probability) for each in request.reported.scores) == ("goat", 0.9)


def test_rows_are_those_of_an_audit_of_a_data_set(tmp_path: Path) -> None:
    background, disagreement = read(write(tmp_path)).services[0].detectors
    request = pb.AuditPredictionRequest(boxes=[{}])  # type: ignore[list-item]
    request.claimed.label = "label:goat"
    told = []
    for planted_, nominated in (
        ({}, False),
        ({"background": True}, False),
        ({"control": True}, False),
        ({"background": True, "control": True}, False),
        ({"agrees": False, "background": True}, False),
    ):
        row = row_of(answer(request, **planted_), "a", "farm", "", nominated=nominated)  # type: ignore[arg-type]
        told.append((outcome_of(background, row), outcome_of(disagreement, row)))
    assert told == [(0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 0.0), (None, 1.0)]
    del request.boxes[:]
    row = row_of(answer(request, background=True), "a", "farm", "", nominated=False)
    assert outcome_of(background, row) is None  # nobody says where the object is
    row = row_of(answer(request, background=True), "a", "farm", "", nominated=True)
    assert outcome_of(background, row) == 1.0
