"""Services that are slow, broken or hostile: each gets one clear error, which gives nothing away."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.open import open_endpoint
from ouzel.errors import FailedPrecondition, OuzelError, Unavailable
from support.http_services import Scripted, hangs_up, says

SECRET = "s3cr3t-t0ken"
IMAGE = '[toy.input]\nimage = "body"\n[toy.output]\n'
ARRAY = f'{IMAGE}scores = "probabilities"\nform = "array"\npath = "scores"\n'
GOOD = json.dumps({"scores": [0.5, 0.5, 0, 0, 0]})
PICTURE = np.zeros((1, 64, 64, 3), np.uint8)


@pytest.fixture
def ask(
    endpoint: Callable[..., Endpoint], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., np.ndarray]]:
    """Asks a server by http-json. Whatever happens, no error, no representation and no log holds a secret."""
    monkeypatch.setenv("TOY_TOKEN", SECRET)
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []

    def run(url: str, text: str = ARRAY, head: str = "retries = 0", pictures: np.ndarray = PICTURE) -> np.ndarray:
        own = f'kind = "http-json"\nbearer_token = {{ env = "TOY_TOKEN" }}\nheaders = {{ X-Key = "{SECRET}" }}\n{head}'
        read = endpoint(f"{url}/{SECRET}/classify?key={SECRET}", text, head=own)
        seen.append(repr(read))
        problem: OuzelError | None = None
        with open_endpoint(read) as asked:
            try:
                return asked(pictures)
            except OuzelError as error:
                problem = error
        seen.append(str(problem))
        assert "endpoint 'toy'" in str(problem)
        raise problem

    yield run
    assert SECRET not in "\n".join(seen)
    assert SECRET not in caplog.text


def test_the_secrets_are_sent(ask) -> None:
    with Scripted(says(body=GOOD)) as server:
        np.testing.assert_array_equal(ask(server.url), [[0.5, 0.5, 0, 0, 0]])
        (head,) = server.requests
    assert head.startswith(f"POST /{SECRET}/classify?key={SECRET} HTTP/1.1\r\n")
    assert f"Authorization: Bearer {SECRET}" in head
    assert f"X-Key: {SECRET}" in head
    assert "Accept-Encoding: identity" in head


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"scores": [NaN, 0.5, 0, 0, 0]}', "not finite"),
        ('{"scores": [Infinity, 0.5, 0, 0, 0]}', "not finite"),
        ('{"scores": [1e999, 0.5, 0, 0, 0]}', "not finite"),
        ('{"scores": [1' + "0" * 400 + ", 0, 0, 0, 0]}", "not numbers of 64 bits"),
        ('{"scores": [1' + "0" * 5000 + ", 0, 0, 0, 0]}", "not JSON"),
        ('{"scores": [0.5, 0.5]}', "answered 2 scores, there are 5 labels"),
        ('{"scores": [0.5, 0.5, 0, 0, 0, 0]}', "answered 6 scores, there are 5 labels"),
        ('{"scores": [true, false, false, false, false]}', "not a list of numbers"),
        ('{"scores": ["1", 0, 0, 0, 0]}', "not a list of numbers"),
        ('{"scores": [[1, 0, 0, 0, 0]]}', "not a list of numbers"),
        ('{"scores": {"ant": 1}}', "not a list of numbers"),
        ('{"scores": null}', "not a list of numbers"),
        ('{"scores": [3.5, -1, 0, 0, 0]}', "state whether they are logits"),
        ('{"scores": [0.9, 0.9, 0, 0, 0]}', "sum of 1.8, not 1"),
        ('{"scores": [0.1, 0.1, 0, 0, 0]}', "sum of 0.2, not 1"),
        ('{"scores": [0, 0, 0, 0, 0]}', "sum of 0, not 1"),
        ('{"scores": [1, 0, 0, 0, 0], "scores": [0, 1, 0, 0, 0]}', "not JSON"),
        ('{"other": 1}', r"nothing at scores \(output.path\)"),
        ("[1, 2]", r"nothing at scores \(output.path\)"),
        ("[" * 100_000, "not JSON"),
        ("<!DOCTYPE html><html>Sign in</html>", "a page of HTML"),
        ("Sign in", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        ("", "not JSON"),
    ],
)
def test_answers_that_cannot_be_used(ask, body, message) -> None:
    with Scripted(says(body=body)) as server, pytest.raises(FailedPrecondition, match=message):
        ask(server.url)


def test_logits_that_are_not_finite(ask) -> None:
    body = '{"scores": [Infinity, 0, 0, 0, 0]}'
    with Scripted(says(body=body)) as server, pytest.raises(FailedPrecondition, match="not finite"):
        ask(server.url, ARRAY.replace("probabilities", "logits"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"ant": 0.5, "wolf": 0.5}, "label 'wolf', which is not among"),
        ({"ant": 0.5, "<script>\n": 0.5}, r"label '<script>\\n', which is not among"),
        ({"ant": 0.5, "x" * 10_000: 0.5}, "label 'x{80}', which is not among"),
        ({"ant": "0.5"}, "score of 'ant' is not a number"),
        ({}, "answered 0 of 5 labels"),
        ([], "no JSON object of labels"),
        ({"ant": 0.9, "bee": 0.9}, "sum of up to 1.8"),
        ({"ant": -0.1, "bee": 0.9}, "values from -0.1"),
    ],
)
def test_labels_that_cannot_be_used(ask, body, message) -> None:
    text = f'{IMAGE}scores = "probabilities"\nform = "mapping"\npartial = true\n'
    with Scripted(says(body=json.dumps(body))) as server, pytest.raises(FailedPrecondition, match=message):
        ask(server.url, text)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([{"label": "ant", "score": 1}, {"label": "ant", "score": 0}], "label 'ant' twice"),
        ([{"label": "ant"}], "score of 'ant' is not a number"),
        ([{"score": 1}], "something that is not a text"),
        ([{"label": ["ant"], "score": 1}], "something that is not a text"),
        (["ant"], "no list of JSON objects"),
        ([{"label": "ant", "score": 1}], "answered 1 of 5 labels"),
    ],
)
def test_lists_that_cannot_be_used(ask, body, message) -> None:
    text = f'{IMAGE}scores = "probabilities"\nform = "list"\n'
    with Scripted(says(body=json.dumps(body))) as server, pytest.raises(FailedPrecondition, match=message):
        ask(server.url, text)


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (301, FailedPrecondition, "redirect, which is not followed"),
        (307, FailedPrecondition, "redirect, which is not followed"),
        (400, FailedPrecondition, "does not take the request"),
        (401, FailedPrecondition, "does not accept the operator's credentials"),
        (403, FailedPrecondition, "does not accept the operator's credentials"),
        (404, FailedPrecondition, "no such model"),
        (500, Unavailable, "an error of the service"),
        (501, Unavailable, "an error of the service"),
    ],
)
def test_statuses_that_do_not_pass(ask, status, kind, message) -> None:
    with Scripted(says(status, SECRET, Location="http://127.0.0.1:1/")) as server:
        with pytest.raises(kind, match=message):
            ask(server.url, head="retries = 5")
        assert len(server.requests) == 1  # not tried again, and not followed


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_statuses_that_pass(ask, status) -> None:
    with Scripted(says(status, Retry_After="0"), says(status), says(body=GOOD)) as server:
        np.testing.assert_array_equal(ask(server.url, head="retries = 2"), [[0.5, 0.5, 0, 0, 0]])
        assert len(server.requests) == 3
    with Scripted(says(status)) as server:
        with pytest.raises(Unavailable, match=f"answered {status}"):
            ask(server.url, head="retries = 1")
        assert len(server.requests) == 2


@pytest.mark.parametrize("wait", ["3600", formatdate(time.time() + 3600, usegmt=True)], ids=["seconds", "date"])
def test_a_wait_beyond_the_deadline_ends_at_once(ask, wait) -> None:
    with Scripted(says(503, Retry_After=wait), says(body=GOOD)) as server:
        with pytest.raises(Unavailable, match="no time is left for a retry"):
            ask(server.url, head="retries = 5")
        assert len(server.requests) == 1


def test_answers_above_the_limit_are_cut_off(ask) -> None:
    stopped = threading.Event()

    def floods(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        except OSError:
            stopped.set()

    with Scripted(floods) as server:
        with pytest.raises(FailedPrecondition, match=r"more than 100000 bytes \(max_response_bytes\)"):
            ask(server.url, head="retries = 0\nmax_response_bytes = 100000")
        assert stopped.wait(30)  # the connection was closed, although there was more to come
    with Scripted(says(body=GOOD + " " * 1024)) as server, pytest.raises(FailedPrecondition, match="more than 1024"):
        ask(server.url, head="retries = 0\nmax_response_bytes = 1024")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip"])
def test_compressed_answers_are_refused_as_they_are(ask, encoding) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    answer = says(body=bomb, Content_Encoding=encoding)
    with Scripted(answer) as server, pytest.raises(FailedPrecondition, match="compressed body"):
        ask(server.url)


def drips(start: bytes, drop: bytes) -> Callable[[socket.socket], None]:
    """Sends something often enough that no single read takes long."""

    def action(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(drop)
            time.sleep(0.05)

    return action


def threads_end() -> None:
    """Waits until no thread of a request is left."""
    deadline = time.monotonic() + 30
    while any(thread.name == "ouzel-endpoint" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the thread of a request is still there"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "action",
    [
        drips(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" "),
        drips(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
        lambda connection: connection.recv(1),
    ],
    ids=["body", "header", "continue", "chunk", "silence"],
)
def test_the_deadline_is_for_the_whole_answer(ask, action) -> None:
    with Scripted(action) as server:
        with pytest.raises(Unavailable, match=r"did not answer within 0.4 s \(timeout_s\)"):
            ask(server.url, head="retries = 5\ntimeout_s = 0.4")
        assert len(server.requests) == 1
    threads_end()


def test_a_resolver_that_hangs_does_not_hold_the_caller(ask, monkeypatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: over.wait(60) and [])
    try:
        with pytest.raises(Unavailable, match=r"did not answer within 0\.3 s"):
            ask("http://toy.invalid:80", head="timeout_s = 0.3")
    finally:
        over.set()


def test_names_that_do_not_resolve(ask) -> None:
    with pytest.raises(Unavailable, match="name of its host cannot be resolved"):
        ask("http://toy.invalid:80", head="retries = 1\ntimeout_s = 60")


def test_refused_connections(ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable, match="refuses the connection"):
        ask(f"http://127.0.0.1:{port}", head="retries = 1")


@pytest.mark.parametrize(
    "action",
    [
        hangs_up,
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
        lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    ],
    ids=["closed", "short", "ssh", "many headers", "long header", "chunk"],
)
def test_broken_connections_are_tried_again(ask, action) -> None:
    with Scripted(action, says(body=GOOD)) as server:
        np.testing.assert_array_equal(ask(server.url, head="retries = 1"), [[0.5, 0.5, 0, 0, 0]])
    with Scripted(action) as server:
        with pytest.raises(Unavailable, match="connection broke"):
            ask(server.url, head="retries = 1")
        assert len(server.requests) == 2


def test_header_lines_that_are_not_headers_give_nothing_away(ask, caplog) -> None:
    def odd(connection: socket.socket) -> None:
        body = GOOD.encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nno header\r\n\r\n" % len(body) + body)

    with Scripted(odd) as server, contextlib.suppress(OuzelError):
        ask(server.url)
    assert "Failed to parse headers" in caplog.text  # urllib3 logs the address of such an answer


def test_the_first_failure_ends_the_rest(ask) -> None:
    with Scripted(says(401)) as server:
        with pytest.raises(FailedPrecondition, match="answered 401"):
            ask(server.url, head="concurrency = 2", pictures=np.zeros((200, 64, 64, 3), np.uint8))
        assert len(server.requests) < 20


def test_proxies_of_the_environment_are_not_used(ask, monkeypatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Scripted(says(body=GOOD)) as server:
        ask(server.url)


def test_the_proxy_of_the_file_is_used(ask, monkeypatch) -> None:
    with Scripted(says(body=GOOD)) as proxy:
        monkeypatch.setenv("TOY_PROXY", proxy.url)
        ask("http://service.invalid", head='proxy = { env = "TOY_PROXY" }')
        assert proxy.requests[0].startswith(f"POST http://service.invalid/{SECRET}/classify?key={SECRET} HTTP/1.1")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "cert.pem", folder / "key.pem"
    words = (
        f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=toy -keyout {paths[1]}"
    )
    made = subprocess.run(
        ["openssl", *words.split(), "-out", str(paths[0]), "-addext", "subjectAltName=IP:127.0.0.1"],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return paths


def test_tls(ask, certificate) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Scripted(says(body=GOOD), tls=context) as server:
        answered = ask(server.url, head=f'ca_file = "{certificate[0]}"')
        np.testing.assert_array_equal(answered, [[0.5, 0.5, 0, 0, 0]])
        with pytest.raises(FailedPrecondition, match="certificate is not valid"):
            ask(server.url)
        with pytest.raises(FailedPrecondition, match="holds no certificates"):
            ask(server.url, head=f'ca_file = "{certificate[1]}"')
    slow, wanted = (
        drips(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        pytest.raises(Unavailable, match="did not answer within"),
    )
    with Scripted(slow, tls=context) as server, wanted:
        ask(server.url, head=f'ca_file = "{certificate[0]}"\ntimeout_s = 0.4')
    threads_end()


def test_a_token_that_is_replaced_is_taken_up(endpoint, tmp_path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    with Scripted(says(body=GOOD)) as server:
        read = endpoint(server.url, ARRAY, head='kind = "http-json"\nbearer_token = { file = "token" }')
        with open_endpoint(read) as asked:
            asked(PICTURE)
            file.write_text("second\n")
            asked(PICTURE)
            file.unlink()
            with pytest.raises(FailedPrecondition, match=r"endpoint 'toy': headers: the file .*token cannot be read"):
                asked(PICTURE)
        assert ["Bearer first" in head for head in server.requests] == [True, False]
        assert "Bearer second" in server.requests[1]
