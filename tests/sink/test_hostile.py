"""A real sink among strangers: nothing is fetched, nothing hangs, nothing grows, and everything is told in words."""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from support.sink import REQUEST, RESPONSE, Sink, fake_worker, headers, request_body, sink, write

TOKEN = "the-token-of-the-senders"
LIMITS = """
token = "the-token-of-the-senders"
[sink.limits]
body_bytes = 1048576
body_s = 1
connections = 40
flight_bytes = 8388608
"""
OWN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    with fake_worker() as worker, sink(write(tmp_path_factory.mktemp("sink"), sink=LIMITS), worker) as found:
        yield found


def counts(running: Sink) -> dict[str, dict[str, int]]:
    status, text = running.ask("GET", "/status", sent=OWN)
    assert status == 200
    found = json.loads(text)
    assert found["adds_up"]
    merged: dict[str, dict[str, int]] = {}
    for of in [*(each["counts"] for each in found["services"].values()), *found["others"].values()]:
        for outcome, reasons in of.items():
            for reason, n in reasons.items():
                merged.setdefault(outcome, {}).setdefault(reason, 0)
                merged[outcome][reason] += n
    return merged


def raw(running: Sink, data: bytes, seconds: float = 10.0) -> bytes:
    """What comes back until the sink closes the connection."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=seconds) as connection:
        connection.sendall(data)
        got = b""
        try:
            while more := connection.recv(65536):
                got += more
        except ConnectionResetError:
            pass
        return got


def own(kind: str, identity: str, **more: str) -> dict[str, str]:
    return headers(kind, identity, **OWN, **more)


REFUSED = {
    "no event": (OWN, b"hello", 400, "not-an-event"),
    "no id": ({k: v for k, v in own(REQUEST, "x").items() if k != "Ce-Id"}, b"{}", 400, "id"),
    "long id": (own(REQUEST, "x" * 300), b"{}", 400, "id"),
    "no JSON": (OWN | {"Content-Type": "application/cloudevents+json"}, b"{", 400, "json"),
    "deep JSON": (OWN | {"Content-Type": "application/cloudevents+json"}, b"[" * 500_000, 400, "json"),
    "batch": (OWN | {"Content-Type": "application/cloudevents-batch+json"}, b"[]", 415, "content-type"),
    "gzip": (own(REQUEST, "z", **{"Content-Encoding": "gzip"}), gzip.compress(bytes(10**7)), 415, "compressed"),
    "large": (own(REQUEST, "l"), bytes(1048577), 413, "too-large"),
    "said to be large": (own(REQUEST, "l", **{"Content-Length": "9" * 18}), b"", 413, "too-large"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_event_is_told_and_counted(running: Sink, case: str) -> None:
    sent, body, wanted, reason = REFUSED[case]
    before = counts(running).get("malformed", {}).get(reason, 0)
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    length = "" if "Content-Length" in sent else f"Content-Length: {len(body)}\r\n"
    answer = raw(running, f"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{length}{lines}\r\n".encode() + body)
    assert answer.startswith(f"HTTP/1.1 {wanted} ".encode()), answer
    words = answer.partition(b"\r\n\r\n")[2]
    assert 5 < len(words) < 400
    assert b"Traceback" not in answer
    assert counts(running)["malformed"][reason] == before + 1


def test_chunks_without_end_are_cut_off(running: Sink) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in own(REQUEST, "c").items())
    head = f"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n{lines}\r\n".encode()
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    before = counts(running).get("malformed", {}).get("too-large", 0)
    answer = raw(running, head + chunk * 20)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")  # it may be reset while it still sends
    assert counts(running)["malformed"]["too-large"] == before + 1


def test_headers_of_a_megabyte_and_requests_that_are_none(running: Sink) -> None:
    process = psutil.Process(running.process.pid)
    before = process.memory_info().rss
    huge = b"POST / HTTP/1.1\r\nHost: a\r\nCe-Id: " + b"a" * 10**6 + b"\r\n\r\n"
    for data in (huge, b"\x16\x03\x01\x02\x00" + bytes(500), b"GET /\r\n\r\n" * 3):
        answer = raw(running, data)
        assert b"Traceback" not in answer
        assert answer in (b"",) or answer.startswith(b"HTTP/1.1 4"), answer
    two = f"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\nContent-Length: 4\r\n"
    assert raw(running, f"{two}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode()).startswith(b"HTTP/1.1 400 ")
    assert process.memory_info().rss - before < 30 * 2**20


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("POST", "/events/", 404),
        ("POST", "//events", 404),
        ("POST", "/healthz", 405),
        ("PUT", "/", 405),
        ("TRACE", "/status", 405),
        ("GET", "/report?days=x", 400),
        ("GET", "/report?days=9999", 400),
        ("GET", "/report?service=%3Cscript%3E", 404),
        ("GET", "/status/%00", 404),
    ],
)
def test_other_paths_lead_nowhere(running: Sink, method: str, path: str, wanted: int) -> None:
    status, text = running.ask(method, path, sent=OWN)
    assert status == wanted
    assert len(text) < 200
    assert "Traceback" not in text


def test_without_the_token_nothing_is_taken_or_told(running: Sink) -> None:
    received = sum(counts(running)["received"].values())
    for token in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic x"}, {"Authorization": "\xff"}):
        assert running.ask("POST", "/", b"{}", headers(REQUEST, "t") | token)[0] == 401
        for path in ("/status", "/report", "/metrics"):
            assert running.ask("GET", path, sent=token)[0] == 401
    assert running.ask("GET", "/healthz") == (200, "ok\n")
    assert sum(counts(running)["received"].values()) == received


def test_slow_senders_are_not_waited_for(running: Sink) -> None:
    """The sink's limit is 1 s; the test's own 10 s are never reached."""
    head = "".join(f"{name}: {value}\r\n" for name, value in own(REQUEST, "slow").items())
    body = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\nConnection: close\r\n{head}\r\nabc".encode()
    before = counts(running).get("malformed", {}).get("slow", 0)
    assert raw(running, b"") == b""
    assert raw(running, b"POST / HTT") == b""
    assert raw(running, b"POST / HTTP/1.1\r\nCe-Id: 1\r\n") == b""
    assert raw(running, body).startswith(b"HTTP/1.1 408 ")
    assert counts(running)["malformed"]["slow"] == before + 1
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as dripping:
        dripping.sendall(b"POST / HTTP/1.1\r\n")
        assert _drips(dripping) < 100


def _drips(connection: socket.socket) -> int:
    """Headers, one each 0.1 s, until the sink has had enough."""
    for number in range(100):
        try:
            connection.sendall(b"X-A: 1\r\n")
        except OSError:
            return number
        time.sleep(0.1)
    return 100


def test_a_crowd_of_idle_connections_passes(running: Sink) -> None:
    running.connection().close()
    crowd = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(60)]
    try:
        assert running.ask("POST", "/", b"{}", own(REQUEST, "crowd"))[0] in (202, 503)
        running.connection().close()
        deadline = time.monotonic() + 20
        while running.ask("POST", "/", b"{}", own(REQUEST, f"crowd-{time.monotonic()}"))[0] != 202:
            running.connection().close()
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        for each in crowd:
            each.close()


def test_who_announces_much_and_sends_nothing_takes_no_room(running: Sink) -> None:
    """Of all bodies that come at a time at most 8 MiB are held; these announce more."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1048576\r\n\r\n" % TOKEN.encode()
    before = counts(running).get("dropped", {}).get("busy", 0)
    running.connection().close()
    idle = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(30)]
    try:
        for each in idle:
            each.sendall(head)
        assert running.ask("POST", "/", b"{}", own(REQUEST, "beside"))[0] == 202
    finally:
        for each in idle:
            each.close()
    assert counts(running).get("dropped", {}).get("busy", 0) == before


def test_nothing_that_an_event_names_is_fetched(running: Sink) -> None:
    came: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as trap:
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/latest/meta-data"

        def listen() -> None:
            try:
                came.append(trap.accept())
            except OSError:
                return

        threading.Thread(target=listen, daemon=True).start()
        encoded = base64.b64encode(address.encode()).decode()
        for number, image in enumerate((address, "file:///etc/passwd", f"data:image/png;base64,{encoded}", encoded)):
            body = json.dumps({"instances": [{"image": {"b64": image}}]}).encode()
            more = {"Ce-Source": address, "Ce-Dataschema": address}
            assert running.post(own(REQUEST, f"f{number}", **more), body)[0] == 202
            said = json.dumps({"predictions": [[0.9, 0.05, 0.05]], "url": address}).encode()
            assert running.post(own(RESPONSE, f"f{number}", **more), said)[0] == 202
        deadline = time.monotonic() + 20
        while counts(running)["queued"][""] and time.monotonic() < deadline:
            time.sleep(0.05)
        trap.shutdown(socket.SHUT_RDWR)
    assert not came
    assert counts(running)["failed"]["request"] == 6  # the last is base64, and no image: the real worker says so


def test_bombs_that_are_taken_as_they_are_cost_what_they_weigh(running: Sink) -> None:
    """A compressed body that is not said to be compressed is a body; JSON of a megabyte is the largest that is read."""
    process = psutil.Process(running.process.pid)
    before = process.memory_info().rss
    bomb = gzip.compress(bytes(5 * 10**8), 1)[: 2**20]
    assert running.post(own(REQUEST, "bomb"), bomb)[0] == 202
    assert running.post(own(RESPONSE, "bomb"), b"[" * 10**6)[0] == 202
    lists = b'{"predictions": [' + b"[]," * 300_000 + b"[]]}"
    assert running.post(own(REQUEST, "lists"), request_body())[0] == 202
    assert running.post(own(RESPONSE, "lists"), lists)[0] == 202
    deadline = time.monotonic() + 30
    while counts(running)["queued"][""] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert counts(running)["failed"]["response"] >= 4
    assert process.memory_info().rss - before < 150 * 2**20


def test_metrics_are_read_as_prometheus_does(running: Sink) -> None:
    status, text = running.ask("GET", "/metrics", sent=OWN)
    assert status == 200
    line = re.compile(r'[a-z_]+(\{[a-z_]+="[^"\n]*"(,[a-z_]+="[^"\n]*")*\})? -?[0-9.e+]+')
    samples = [each for each in text.splitlines() if not each.startswith("#")]
    assert all(line.fullmatch(each) for each in samples), samples
    told = {each.rpartition(" ")[0]: float(each.rpartition(" ")[2]) for each in samples}
    received = [n for name, n in told.items() if 'outcome="received"' in name]
    assert sum(received) == sum(counts(running)["received"].values())


def test_it_still_lives_and_has_told_no_secret(running: Sink) -> None:
    assert running.process.poll() is None
    log = running.log.read_text()
    assert TOKEN not in log
    assert "Traceback" not in log
