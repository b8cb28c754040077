"""Connections over HTTP, byte by byte: bodies that nobody wants, requests with two ends, and what is no HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from ouzel.errors import Unauthenticated
from ouzel.gateway.access.caller import ROLES, Caller, TenantLimits
from ouzel.gateway.access.open import OpenAccess
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses
from support.gateway import call, gateway
from support.still_engine import StillEngine


@dataclass
class Keyed(OpenAccess):
    """Who has the key may explain `m` and nothing else."""

    caller: Caller = field(default_factory=lambda: Caller("t", "t", frozenset(ROLES[:1]), ("m",), TenantLimits()))

    def identify(self, authorization: str | None, _certificate: object) -> Caller:
        if authorization != "Bearer key":
            raise Unauthenticated("who is that?")
        return self.caller


@pytest.fixture(scope="module")
def served() -> Iterator[Addresses]:
    options = GatewayOptions(rest_port=0, grpc_port=0, access=Keyed(), body_timeout=600)
    with gateway(StillEngine, options) as addresses:
        yield addresses


def connected(served: Addresses) -> socket.socket:
    at = urlsplit(served.rest)
    assert at.hostname
    return socket.create_connection((at.hostname, at.port or 0), timeout=30)


def talk(served: Addresses, sent: bytes) -> bytes:
    """All that comes until the server closes; nothing is closed here."""
    with connected(served) as connection:
        connection.sendall(sent)
        answer = b""
        while part := connection.recv(2**16):
            answer += part
        return answer


BEGUN = {
    "no key": ("POST /v2/models/m/infer", "", 401),
    "no such model": ("POST /v2/models/x/infer", "Authorization: Bearer key\r\n", 404),
    "no such path": ("POST /v2/nope", "", 404),
    "no such method": ("DELETE /v2/models/m/infer", "", 405),
    "not spoken": ("POST /v2/repository/models/m/load", "Authorization: Bearer key\r\n", 501),
    "health": ("GET /v2/health/live", "", 200),
}


@pytest.mark.parametrize("framing", ["Content-Length: 100000\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n5\r\nab"])
@pytest.mark.parametrize("name", BEGUN)
def test_who_is_answered_before_the_body_has_come_is_closed(served: Addresses, name: str, framing: str) -> None:
    line, headers, status = BEGUN[name]
    answer = talk(served, f"{line} HTTP/1.1\r\nHost: x\r\n{headers}{framing}".encode())
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(f"http/1.1 {status} ".encode())
    assert b"\r\nconnection: close" in head


def test_a_whole_body_keeps_the_connection(served: Addresses) -> None:
    with connected(served) as connection:
        for _ in range(2):
            connection.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(2**16)
            assert b" 401 " in answer.partition(b"\r\n")[0]
            assert b"connection: close" not in answer.lower()


HIDDEN = b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("order", [1, -1])
def test_a_request_with_two_ends_is_refused_and_nothing_behind_it_is_read(served: Addresses, order: int) -> None:
    framing = "\r\n".join(("Transfer-Encoding: chunked", "Content-Length: 5")[::order])
    answer = talk(served, f"POST /v2/health/live HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n0\r\n\r\n".encode() + HIDDEN)
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["field"] == "content-length"


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 100_000,
        b"POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_gets_a_problem(served: Addresses, sent: bytes) -> None:
    head, _, body = talk(served, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == "INVALID_ARGUMENT"


def test_headers_that_may_come_once(served: Addresses) -> None:
    for name, path in (
        ("X-Ouzel-Timeout", "/v2/models/m/infer"),
        ("Inference-Header-Content-Length", "/v2/models/m/infer"),
        ("X-Ouzel-Options", "/v1/models/m/explain"),
    ):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\nConnection: close\r\n"
        answer = talk(served, f"{head}{name}: 1\r\n{name}: 1\r\nContent-Length: 1\r\n\r\nx".encode())
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert b"comes more than once" in answer
    own = {"Authorization": "Bearer key"}
    for text in ("1_0", "0x1", "", "nan", "inf", "1e999", "--1", "1" * 500):
        status, _, answer = call(served, "POST", "/v2/models/m/infer", b"{}", own | {"X-Ouzel-Timeout": text})
        assert status == 400, (text, answer)
        assert b"number of seconds" in answer


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/models/m/load"),
        ("POST", "/v2/repository/models/m/unload"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/cudasharedmemory/region/r/register"),
        ("POST", "/v2/models/m/generate"),
        ("GET", "/v2/logging"),
    ],
)
def test_what_triton_has_and_we_have_not(served: Addresses, method: str, path: str) -> None:
    status, _, body = call(served, method, path, b"{}", {"Authorization": "Bearer key"})
    assert (status, list(json.loads(body))) == (501, ["error"])
    assert call(served, method, path, b"{}")[0] == 401


FORMS = {
    "misspelt": ("option", "option"),
    "of the pool": ("model", "model"),
    "nothing": ("digest", "digest"),
    "ours": ("call", "call"),
    "twice": ("body", "comes beside an image"),
}


@pytest.mark.parametrize("name", FORMS)
def test_parts_that_mean_nothing_are_refused(served: Addresses, name: str) -> None:
    part, words = FORMS[name]
    body = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="{each}"\r\n\r\nx\r\n'.encode() for each in ("image", part)
    )
    headers = {"Authorization": "Bearer key", "Content-Type": "multipart/form-data; boundary=b"}
    status, _, answer = call(served, "POST", "/v1/models/m/explain", body + b"--b--\r\n", headers)
    problem = json.loads(answer)
    assert (status, problem["field"]) == (400, part)
    assert words in problem["detail"]
    if name != "twice":
        assert "there are image, tensor, options" in problem["detail"]
    nothing = call(served, "POST", "/v1/models/m/explain", b"junk", headers)[2]
    assert b"at most" not in nothing
    parts = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="p{each}"\r\n\r\nx\r\n'.encode() for each in range(9)
    )
    assert b"more than 8 parts" in call(served, "POST", "/v1/models/m/explain", parts + b"--b--\r\n", headers)[2]
