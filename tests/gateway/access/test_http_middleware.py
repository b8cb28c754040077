"""A real server of HTTP, Starlette in uvicorn, behind the middleware."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ouzel.errors import OuzelError, Unavailable
from ouzel.gateway.access.call import current
from ouzel.gateway.access.caller import Access, TenantLimits, unknown_model
from ouzel.gateway.access.http_certificates import with_certificates
from ouzel.gateway.access.http_middleware import AccessMiddleware, handle
from ouzel.gateway.access.open import OpenAccess
from ouzel.gateway.access.tls import Tls, TlsFiles
from support import asgi

if TYPE_CHECKING:
    from conftest import Site


async def infer(request: Request) -> JSONResponse:
    model = request.path_params["model"]
    with current().admitted("explain", model):
        if model not in ("birds", "cats"):
            raise unknown_model(model)
        body = await request.body()
        return JSONResponse({"caller": request.state.call.caller.name, "bytes": len(body)})


async def health(_request: Request) -> JSONResponse:
    return JSONResponse({"live": True})


class Served:
    def __init__(self, port: int, denied: Counter[tuple[str, str]]) -> None:
        self.port, self.denied = port, denied

    def ask(self, path: str, key: str | None = None, body: Any = b"", **headers: str) -> tuple[int, Any, Any]:
        """Status, headers and document of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            connection.request("POST", path, body, given | headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, json.loads(answer.read())
        finally:
            connection.close()


@contextmanager
def serving(access: Access, *, handlers: bool = True, **options: Any) -> Iterator[Served]:
    denied = Counter[tuple[str, str]]()
    app = Starlette(
        routes=[Route("/models/{model}", infer, methods=["POST"]), Route("/live", health, methods=["POST"])],
        middleware=[
            Middleware(
                AccessMiddleware,
                access=access,
                denied=lambda method, code: denied.update([(method, code)]),
                open=frozenset({"/live"}),
            )
        ],
        exception_handlers={OuzelError: handle} if handlers else {},
    )
    with asgi.serving(app, **options) as port:
        yield Served(port, denied)


def is_problem(answer: tuple[int, Any, Any], status: int, code: str) -> bool:
    got, headers, document = answer
    return (
        (got, document["status"], document["code"]) == (status, status, code)
        and headers["content-type"] == "application/problem+json"
        and document.keys() >= {"type", "title", "detail"}
    )


@pytest.mark.parametrize("handlers", [True, False])
def test_refusals_are_problems_with_their_headers(site: Site, handlers: bool) -> None:
    site.write('models = ["bird*"]\nburst = 1\nrequests_per_second = 0.01')
    key, jobs = site.key("acme", "explain"), site.key("other", "jobs")
    with site.open() as access, serving(access, handlers=handlers) as served:
        assert served.ask("/live")[0] == 200
        stranger = served.ask("/models/birds")
        assert is_problem(stranger, 401, "UNAUTHENTICATED")
        assert stranger[1]["www-authenticate"] == 'Bearer realm="ouzel"'
        wrong = served.ask("/models/birds", "ouzel_wrong")
        assert is_problem(wrong, 401, "UNAUTHENTICATED")
        assert 'error="invalid_token"' in wrong[1]["www-authenticate"]
        role = served.ask("/models/birds", jobs)
        assert is_problem(role, 403, "PERMISSION_DENIED")
        assert "'explain'" in role[2]["detail"]
        foreign, unknown = served.ask("/models/cats", key), served.ask("/models/birdz", key)
        assert is_problem(foreign, 404, "NOT_FOUND")
        texts = [json.dumps(foreign[2]).replace("cats", "NAME"), json.dumps(unknown[2]).replace("birdz", "NAME")]
        assert texts[0] == texts[1]
        served.ask("/models/birds", key)  # the rate is used up by now
        busy = served.ask("/models/birds", key)
        assert is_problem(busy, 429, "RESOURCE_EXHAUSTED")
        assert 90 < int(busy[1]["retry-after"]) <= 100
        assert served.denied["POST /models/birds", "UNAUTHENTICATED"] == 2
        assert served.denied["POST /models/birds", "PERMISSION_DENIED"] == 1
        assert served.denied["POST /models/cats", "NOT_FOUND"] == 1


def test_a_body_is_limited_whether_its_length_is_announced_or_not(site: Site) -> None:
    site.write("body_bytes = 2048")
    key = site.key()
    with site.open() as access, serving(access) as served:
        assert served.ask("/models/birds", key, b"x" * 2048)[2] == {"caller": "robot", "bytes": 2048}
        announced = served.ask("/models/birds", key, b"x" * 2049)
        in_parts = served.ask("/models/birds", key, iter([b"x" * 1024] * 3))
        for answer in (announced, in_parts):
            assert is_problem(answer, 413, "INVALID_ARGUMENT")
            assert "2048 bytes" in answer[2]["detail"]


async def test_a_body_that_comes_in_small_parts_is_counted_whole() -> None:
    sent: list[dict[str, Any]] = []
    received: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 1024, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        while True:
            received.append(len((await receive())["body"]))

    door = AccessMiddleware(app, OpenAccess(TenantLimits(body_bytes=2048)))
    await door({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)
    assert received == [1024, 1024]
    assert sent[0]["status"] == 413


def test_a_stranger_is_denied_before_the_body_comes(site: Site) -> None:
    with (
        site.open() as access,
        serving(access) as served,
        socket.create_connection(("127.0.0.1", served.port), timeout=20) as raw,
    ):
        raw.sendall(b"POST /models/birds HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_two_headers_are_ambiguous(site: Site) -> None:
    key = site.key()
    with (
        site.open() as access,
        serving(access) as served,
        socket.create_connection(("127.0.0.1", served.port), timeout=20) as raw,
    ):
        header = f"Authorization: Bearer {key}\r\n".encode()
        raw.sendall(b"POST /models/birds HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" + header * 2 + b"\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_what_cannot_be_told_now_is_503() -> None:
    class Silent:
        def identify(self, _authorization: Any, _certificate: Any) -> Any:
            raise Unavailable("keys cannot be checked at the moment")

    with serving(Silent()) as served:  # type: ignore[arg-type]
        answer = served.ask("/models/birds")
        assert is_problem(answer, 503, "UNAVAILABLE")
        assert answer[1]["retry-after"] == "1"


def test_a_certificate_names_the_caller(site: Site, ca: trustme.CA, tmp_path: Path) -> None:
    site.write(more='[[certificates]]\ntenant = "acme"\nname = "fleet"\nroles = ["explain"]\nsan = "DNS:fleet.example"')
    foreign = site.key("other")
    server, clients = ca.issue_cert("127.0.0.1"), trustme.CA()
    files = TlsFiles(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "clients.crt")
    files.certificate.write_bytes(server.cert_chain_pems[0].bytes())
    files.key.write_bytes(server.private_key_pem.bytes())
    assert files.client_ca is not None
    files.client_ca.write_bytes(clients.cert_pem.bytes())
    tls = Tls(files)

    def ask(san: str, **headers: str) -> tuple[int, dict[str, Any]]:
        context = ssl.create_default_context()
        ca.configure_trust(context)
        clients.issue_cert(san).configure_cert(context)
        connection = http.client.HTTPSConnection("127.0.0.1", served.port, timeout=20, context=context)
        try:
            connection.request("POST", "/models/birds", b"", headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    with (
        site.open([tls.refresh]) as access,
        serving(access, http=with_certificates(), ssl_context_factory=lambda _config, _usual: tls.http()) as served,
    ):
        assert ask("fleet.example") == (200, {"caller": "fleet", "bytes": 0})
        status, document = ask("stranger.example")
        assert (status, document["detail"]) == (401, "the certificate is not known here")
        assert ask("stranger.example", Authorization=f"Bearer {foreign}") == (200, {"caller": "robot", "bytes": 0})
        status, document = ask("fleet.example", Authorization=f"Bearer {foreign}")
        assert (status, "another tenant" in document["detail"]) == (401, True)
