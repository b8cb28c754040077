"""TLS of real servers: uvicorn and grpc.aio, whose files change while they run."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization as s
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ouzel.errors import InvalidArgument
from ouzel.gateway.access.certificate import Certificate
from ouzel.gateway.access.http_certificates import CERTIFICATE, with_certificates
from ouzel.gateway.access.tls import Tls, TlsFiles
from support import asgi


class Files:
    def __init__(self, folder: Path, ca: trustme.CA) -> None:
        self.ca, self.paths = ca, TlsFiles(folder / "tls.crt", folder / "tls.key", None)
        self.issue()

    def issue(self, ca: trustme.CA | None = None, **options: Any) -> int:
        """Writes a new pair; returns its serial number."""
        made = (ca or self.ca).issue_cert("localhost", "127.0.0.1", **options)
        chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
        self.paths.certificate.write_bytes(chain)
        self.paths.key.write_bytes(made.private_key_pem.bytes())
        return x509.load_pem_x509_certificate(chain).serial_number

    def for_clients(self, ca: trustme.CA) -> TlsFiles:
        path = self.paths.certificate.with_name("clients.crt")
        path.write_bytes(ca.cert_pem.bytes())
        return TlsFiles(self.paths.certificate, self.paths.key, path)


@pytest.fixture
def files(tmp_path: Path, ca: trustme.CA) -> Files:
    return Files(tmp_path, ca)


async def who(request: Request) -> JSONResponse:
    """Tells whose certificate it has seen."""
    read = getattr(request.state, CERTIFICATE, None)
    certificate: Certificate | None = read() if read else None
    return JSONResponse({"names": certificate.names if certificate else None})


def serving(tls: Tls) -> AbstractContextManager[int]:
    app = Starlette(routes=[Route("/", who)])
    return asgi.serving(app, http=with_certificates(), ssl_context_factory=lambda _config, _usual: tls.http())


def client_context(ca: trustme.CA, own: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if own is not None:
        own.configure_cert(context)
    return context


def ask(
    port: int, context: ssl.SSLContext, name: str | None = "localhost", session: ssl.SSLSession | None = None
) -> tuple[int, str, ssl.SSLSession | None]:
    """The serial number of the server's certificate, what it answers ("" if it closes), and the session."""
    context.check_hostname = name is not None
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as raw,
        context.wrap_socket(raw, server_hostname=name, session=session) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
        assert der is not None
        answer = b""
        with suppress(OSError):  # an alert: with TLS 1.3 it comes after the handshake
            tls.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while part := tls.recv(65_536):
                answer += part
        return x509.load_der_x509_certificate(der).serial_number, answer.decode(), tls.session


def refused(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> bool:
    try:
        return ask(port, context, session=session)[1] == ""
    except (ssl.SSLError, ConnectionError):
        return True


def test_a_server_of_http_shows_new_files_without_a_restart(files: Files, ca: trustme.CA) -> None:
    first = files.issue()
    tls = Tls(files.paths)
    with serving(tls) as port:
        assert ask(port, client_context(ca))[0] == first
        second = files.issue()
        assert second != first
        assert ask(port, client_context(ca))[0] == first  # until it is read
        tls.refresh()
        assert ask(port, client_context(ca))[0] == second
        assert ask(port, client_context(ca), name=None)[0] == second  # of clients that name no server
        files.paths.key.write_bytes(ca.issue_cert("localhost").private_key_pem.bytes())
        tls.refresh()
        assert tls.problem
        assert ask(port, client_context(ca))[0] == second


def test_a_client_shows_a_certificate_that_the_file_of_today_trusts(files: Files, ca: trustme.CA) -> None:
    clients, others = trustme.CA(), trustme.CA()
    own, foreign = (each.issue_cert("spiffe.example", "robot@acme.example") for each in (clients, others))
    tls = Tls(files.for_clients(clients))
    with serving(tls) as port:
        assert '"names":["DNS:spiffe.example","email:robot@acme.example"]' in ask(port, client_context(ca, own))[1]
        assert [refused(port, client_context(ca, stranger)) for stranger in (None, foreign)] == [True, True]
        files.for_clients(others)
        tls.refresh()
        assert "robot@acme" in ask(port, client_context(ca, foreign))[1]
        assert refused(port, client_context(ca, own))


def test_no_session_outlives_the_trust_in_a_client(files: Files, ca: trustme.CA) -> None:
    clients = trustme.CA()
    tls = Tls(files.for_clients(clients))
    old, new = (client_context(ca, clients.issue_cert("spiffe.example")) for _ in range(2))
    old.maximum_version = ssl.TLSVersion.TLSv1_2  # whose sessions would
    with serving(tls) as port:
        assert refused(port, old)
        _, answer, session = ask(port, new)
        assert "spiffe" in answer
        files.for_clients(trustme.CA())
        tls.refresh()
        assert refused(port, new, session)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(files: Files, ca: trustme.CA, version: ssl.TLSVersion) -> None:
    tls = Tls(files.paths)
    with serving(tls) as port:
        context = client_context(ca)
        context.set_ciphers("ALL:@SECLEVEL=0")  # else this client would refuse it itself
        context.minimum_version = context.maximum_version = version
        with pytest.raises(ssl.SSLError, match=r"(?i)alert|version|protocol|EOF"):
            ask(port, context)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        ask(port, context)
    # Debian's OpenSSL refuses old versions anyway; others do not.
    assert {each.minimum_version for each in (tls.http(), tls._watched.value.context)} == {ssl.TLSVersion.TLSv1_2}


async def test_a_server_of_grpc_shows_new_files_without_a_restart(files: Files, ca: trustme.CA) -> None:
    clients = trustme.CA()
    own, foreign = clients.issue_cert("spiffe.example"), trustme.CA().issue_cert("spiffe.example")
    first = files.issue()
    tls = Tls(files.for_clients(clients))

    async def who(_request: bytes, context: Any) -> bytes:
        return " ".join(Certificate.of_pem(context.auth_context()["x509_pem_cert"][0]).names).encode()

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(who)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s.S", {"Who": handler}),))
    port = server.add_secure_port("127.0.0.1:0", tls.grpc())
    await server.start()

    async def call(leaf: trustme.LeafCert) -> bytes:
        credentials = grpc.ssl_channel_credentials(
            ca.cert_pem.bytes(), leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes()
        )
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options) as channel:
            return await channel.unary_unary("/s.S/Who")(b"", timeout=20)

    def serial() -> int:
        """Asked by another client: gRPC does not tell."""
        context = client_context(ca, own)
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as made,
        ):
            der = made.getpeercert(binary_form=True)
            assert der is not None
            return x509.load_der_x509_certificate(der).serial_number

    try:
        assert await call(own) == b"DNS:spiffe.example"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(foreign)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(serial) == first
        second = files.issue()
        tls.refresh()
        assert await asyncio.to_thread(serial) == second
        files.paths.certificate.write_bytes(b"broken")
        tls.refresh()
        assert tls.problem
        assert await asyncio.to_thread(serial) == second
        assert await call(own) == b"DNS:spiffe.example"
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        (b"", None, "tls.crt: holds no certificate"),
        (None, b"", "tls.key: holds no private key"),
        (None, "other", "tls.key: is not the key of the certificate"),
        (None, "locked", "tls.key: holds no private key in PEM without a password"),
    ],
)
def test_files_that_do_not_fit_are_refused(files: Files, certificate: bytes | None, key: Any, message: str) -> None:
    other = files.ca.issue_cert("localhost").private_key_pem.bytes()
    locked = s.load_pem_private_key(other, None).private_bytes(
        s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret")
    )
    if certificate is not None:
        files.paths.certificate.write_bytes(certificate)
    if key is not None:
        files.paths.key.write_bytes({"other": other, "locked": locked}.get(key, key) if isinstance(key, str) else key)
    with pytest.raises(InvalidArgument, match=message):
        Tls(files.paths)
    files.paths.key.unlink()
    with pytest.raises(InvalidArgument, match="cannot be read"):
        Tls(files.paths)


def test_the_log_warns_once_a_day_of_a_certificate_that_ends(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    now = time.time()
    tls = Tls(files.paths, clock=lambda: now)
    now = tls.expires - 31 * 86_400
    tls.refresh()
    assert not caplog.messages
    for days in (29.0, 28.9, 28.0):
        now = tls.expires - days * 86_400
        tls.refresh()
    warned = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert [f"{days} days" in each.getMessage() for days, each in zip((29.0, 28.0), warned, strict=True)] == [
        True,
        True,
    ]


def test_an_expired_certificate_is_refused_and_the_old_one_stays(files: Files) -> None:
    now = time.time()
    tls = Tls(files.paths, clock=lambda: now)
    ends = tls.expires
    now = ends + 1
    files.paths.certificate.touch()
    content = files.paths.certificate.read_bytes()
    files.paths.certificate.write_bytes(content + b"\n")
    tls.refresh()
    assert "has expired" in tls.problem
    assert tls.expires == ends
    with pytest.raises(InvalidArgument, match="has expired"):
        Tls(files.paths, clock=lambda: now)
