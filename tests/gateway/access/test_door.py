"""The gateway with keys, roles, quotas and certificates: whom it denies, with which words, and what the log hears."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import grpc
import pytest
import trustme
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from ouzel.errors import Unavailable
from ouzel.gateway.access.tls import Tls, TlsFiles
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses
from ouzel.gateway.worker.place import WorkerOptions
from ouzel.ledger import open_ledger
from ouzel.ledger.settings import existing, settings
from support import oip_bytes as wire
from support.gateway import gateway
from support.jobs import until
from support.still_engine import StillEngine

if TYPE_CHECKING:
    from conftest import Site

Code = grpc.StatusCode
INFER, METADATA = (f"/inference.GRPCInferenceService/{name}" for name in ("ModelInfer", "ModelMetadata"))
LIST, CREATE = "/ouzel.v1.JobService/ListJobs", "/ouzel.v1.JobService/CreateJob"
PATHS = (
    INFER,
    METADATA,
    LIST,
    "/ouzel.v1.DatasetService/UploadFiles",
    "/ouzel.v1.AuditService/AuditReported",
    "/n.N/N",
)


@dataclass
class Served:
    addresses: Addresses
    credentials: grpc.ChannelCredentials | None = None
    context: ssl.SSLContext | None = None

    def channel(self) -> grpc.Channel:
        if self.credentials is None:
            return grpc.insecure_channel(self.addresses.grpc)
        return grpc.secure_channel(f"localhost:{self.addresses.grpc.rpartition(':')[2]}", self.credentials)

    def post(self, path: str, key: str = "", body: Any = b"x", **headers: str) -> tuple[int, Any, Any]:
        port = urlsplit(self.addresses.rest).port
        connection = (
            http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            if self.context is None
            else http.client.HTTPSConnection("localhost", port, timeout=20, context=self.context)
        )
        try:
            own = {"Authorization": f"Bearer {key}"} if key else {}
            connection.request("POST", path, body, own | headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, json.loads(answer.read())
        finally:
            connection.close()


@contextmanager
def serving(access: Any, ca: trustme.CA | None = None, seconds: float = 0.0, **options: Any) -> Iterator[Served]:
    """A gateway before models `birds` and `cats`; with an authority, callers show certificates of robot.example."""
    files = None if ca is None else options.pop("files")
    tls = None if files is None else Tls(files)
    own = GatewayOptions(rest_port=0, grpc_port=0, grace=2, access=access, tls=tls, **options)
    with gateway(lambda: StillEngine(("birds", "cats"), seconds), own) as addresses:
        yield Served(addresses)


def infer(model: str) -> bytes:
    return wire.infer(model, [wire.tensor("image", "BYTES", (1,))], [wire.elements(b"x")])


def bearer(*keys: str) -> Any:
    return tuple(("authorization", f"Bearer {key}") for key in keys)


def refused(served: Served, path: str, message: bytes, metadata: Any = ()) -> grpc.RpcError:
    with served.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(message, metadata=metadata, timeout=20)
    return caught.value


def details(error: grpc.RpcError, kind: Any) -> Any:
    raw = dict(error.trailing_metadata())["grpc-status-details-bin"]
    out = kind()
    assert any(each.Unpack(out) for each in Status.FromString(raw).details)
    return out


def facts(folder: Path) -> list[dict[str, Any]]:
    """What the log of a folder says of refusals."""
    ledger = open_ledger(existing(folder))
    try:
        found = ledger.entries(0, ledger.size(), kind="refusal")
        return [json.loads(each.body or b"")["facts"] for each in found]
    finally:
        ledger.close()


def test_strangers_are_denied_with_reasons_that_machines_read(site: Site) -> None:
    key = site.key()
    with site.open() as access, serving(access, worker=WorkerOptions(lambda: None)) as served:
        for metadata in ((), bearer("ouzel_no"), bearer(key, key), (("authorization", "Basic YTpi"),)):
            for path in PATHS:
                error = refused(served, path, infer("birds"), metadata)
                assert error.code() is Code.UNAUTHENTICATED
                assert details(error, error_details_pb2.ErrorInfo).reason == "UNAUTHENTICATED"
                assert key not in str(error)
        assert refused(served, "/n.N/N", b"", bearer(key)).code() is Code.UNIMPLEMENTED
        status, headers, problem = served.post("/v1/models/birds/explain", "ouzel_wrong")
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert (headers["content-type"], problem["code"]) == ("application/problem+json", "UNAUTHENTICATED")
        raw = socket.create_connection(("127.0.0.1", urlsplit(served.addresses.rest).port), timeout=20)
        with raw:  # before the body comes
            raw.sendall(b"POST /v1/models/birds/explain HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
            assert raw.recv(4096).startswith(b"HTTP/1.1 401 ")


def silent(done: threading.Event) -> Iterator[bytes]:
    done.wait(60)
    yield b""


@pytest.fixture
def certified(ca: trustme.CA, tmp_path: Path) -> Any:
    """(files of the server, what a client with a certificate for a name trusts and shows)."""
    own, clients = ca.issue_cert("localhost", "127.0.0.1"), trustme.CA()
    files = TlsFiles(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "clients.crt")
    files.certificate.write_bytes(own.cert_chain_pems[0].bytes())
    files.key.write_bytes(own.private_key_pem.bytes())
    assert files.client_ca is not None
    files.client_ca.write_bytes(clients.cert_pem.bytes())

    def shown(served: Served, san: str) -> Served:
        pair = clients.issue_cert(san)
        chain = pair.cert_chain_pems[0].bytes()
        context = ssl.create_default_context()
        ca.configure_trust(context)
        pair.configure_cert(context)
        credentials = grpc.ssl_channel_credentials(ca.cert_pem.bytes(), pair.private_key_pem.bytes(), chain)
        return Served(served.addresses, credentials, context)

    return files, shown


@pytest.mark.parametrize("certificates", [False, True])
def test_silent_streams_of_strangers_are_denied_at_once_and_leave_room(
    site: Site, certificates: bool, ca: trustme.CA, certified: Any
) -> None:
    """More of them than the server takes at a time; none sends a message, or ends."""
    key, most = site.key(), 8
    files, shown = certified
    more: dict[str, Any] = {"ca": ca, "files": files} if certificates else {}
    done = threading.Event()
    with (
        site.open() as access,
        serving(access, max_calls=most, worker=WorkerOptions(lambda: None), body_timeout=60, **more) as plain,
    ):
        served = shown(plain, "stranger.example") if certificates else plain
        with served.channel() as channel:
            try:
                for path in PATHS * most:
                    call = channel.stream_stream(path)(silent(done), timeout=30)
                    assert call.code() is Code.UNAUTHENTICATED
                answer = channel.unary_unary(INFER)(infer("birds"), metadata=bearer(key), timeout=20)
                assert wire.of(answer, 1) == [b"birds"]
            finally:
                done.set()


def test_a_role_is_named_and_a_foreign_model_is_like_none(site: Site) -> None:
    site.write('models = ["bird*"]')
    explain, jobs = site.key("acme", "explain"), site.key("acme", "jobs")
    done = threading.Event()
    with site.open() as access, serving(access, worker=WorkerOptions(lambda: None)) as served:
        with served.channel() as channel:  # before a message is sent
            call = channel.stream_stream(LIST)(silent(done), metadata=bearer(explain), timeout=20)
            assert (call.code(), "'jobs'" in call.details()) == (Code.PERMISSION_DENIED, True)
            done.set()
        error = refused(served, INFER, infer("birds"), bearer(jobs))
        assert (error.code(), "'explain'" in error.details()) == (Code.PERMISSION_DENIED, True)
        status, _, problem = served.post("/v1/models/birds/explain", jobs)
        assert (status, problem["code"], "'explain'" in problem["detail"]) == (403, "PERMISSION_DENIED", True)
        said, posted = [], []
        # Not for this tenant; not served at all; allowed by the patterns, but not served.
        for name in ("cats", "dogs", "birdz"):
            for path, message in ((INFER, infer(name)), (METADATA, wire.chunk(1, name))):
                error = refused(served, path, message, bearer(explain))
                said.append((error.code(), error.details().replace(name, "NAME"), len(error.trailing_metadata())))
            posted.append(json.dumps(served.post(f"/v1/models/{name}/explain", explain)[2]).replace(name, "NAME"))
        assert len(set(said)) == len(set(posted)) == 1
        assert said[0][0] is Code.NOT_FOUND


def test_forty_calls_into_a_concurrency_of_five(site: Site) -> None:
    site.write("concurrency = 5\nburst = 1000\nrequests_per_second = 1000")
    key, other = site.key(), site.key("other")
    with site.open() as access, serving(access, seconds=1.0) as served, served.channel() as channel:
        ask = channel.unary_unary(INFER)
        calls = [ask.future(infer("birds"), metadata=bearer(key), timeout=20) for _ in range(40)]
        foreign = ask.future(infer("birds"), metadata=bearer(other), timeout=20)
        codes = Counter(each.code() for each in calls)
        assert codes == {Code.OK: 5, Code.RESOURCE_EXHAUSTED: 35}
        assert foreign.code() is Code.OK
        given_up = [ask.future(infer("birds"), metadata=bearer(key), timeout=20) for _ in range(5)]
        for each in given_up:
            each.cancel()

        def room() -> bool:
            return ask.future(infer("birds"), metadata=bearer(key), timeout=20).code() is Code.OK

        until(room, 20)


def test_a_rate_says_when_to_try_again(site: Site) -> None:
    site.write("burst = 2\nrequests_per_second = 0.01")
    key = site.key()
    with site.open() as access, serving(access) as served:
        with served.channel() as channel:
            for _ in range(2):
                channel.unary_unary(INFER)(infer("birds"), metadata=bearer(key), timeout=20)
        error = refused(served, INFER, infer("birds"), bearer(key))
        assert error.code() is Code.RESOURCE_EXHAUSTED
        assert 90 < details(error, error_details_pb2.RetryInfo).retry_delay.seconds <= 100
        status, headers, problem = served.post("/v1/models/birds/explain", key)
        assert (status, problem["code"]) == (429, "RESOURCE_EXHAUSTED")
        assert 90 < int(headers["retry-after"]) <= 100


def test_a_body_is_limited_whether_its_length_is_announced_or_not(site: Site) -> None:
    site.write("body_bytes = 2048")
    key = site.key()
    with site.open() as access, serving(access) as served:
        assert served.post("/v1/models/birds/explain", key, b"x" * 2048)[0] == 200
        for body in (b"x" * 2049, iter([b"x" * 1024] * 3), iter([b"x"] * 2049)):  # and nothing after that
            status, _, problem = served.post("/v1/models/birds/explain", key, body)
            assert (status, "2048" in problem["detail"]) == (413, True)


def test_what_cannot_be_told_now_is_unavailable() -> None:
    class Silent:
        def identify(self, _authorization: Any, _certificate: Any) -> Any:
            raise Unavailable("keys cannot be checked at the moment")

    with serving(Silent()) as served:
        error = refused(served, INFER, infer("birds"))
        assert error.code() is Code.UNAVAILABLE
        assert details(error, error_details_pb2.RetryInfo).retry_delay.seconds == 1
        status, headers, _ = served.post("/v1/models/birds/explain")
        assert (status, headers["retry-after"]) == (503, "1")


def test_a_certificate_names_the_caller(site: Site, ca: trustme.CA, certified: Any) -> None:
    site.write(more='[[certificates]]\ntenant = "acme"\nname = "fleet"\nroles = ["explain"]\nsan = "DNS:fleet.example"')
    key, foreign = site.key(), site.key("other")
    files, shown = certified
    with site.open() as access, serving(access, ca, files=files) as plain:
        fleet, stranger = shown(plain, "fleet.example"), shown(plain, "stranger.example")
        for metadata in ((), bearer(key)):
            with fleet.channel() as channel:
                assert channel.unary_unary(INFER)(infer("birds"), metadata=metadata, timeout=20)
        assert fleet.post("/v1/models/birds/explain")[0] == fleet.post("/v1/models/birds/explain", key)[0] == 200
        assert stranger.post("/v1/models/birds/explain", foreign)[0] == 200
        error = refused(fleet, INFER, infer("birds"), bearer(foreign))
        assert (error.code(), "another tenant" in error.details()) == (Code.UNAUTHENTICATED, True)
        status, _, problem = fleet.post("/v1/models/birds/explain", foreign)
        assert (status, "another tenant" in problem["detail"]) == (401, True)
        status, _, problem = stranger.post("/v1/models/birds/explain")
        assert (status, problem["detail"]) == (401, "the certificate is not known here")
        site.file.write_text("[tenants.acme]\n")

        def gone() -> bool:
            with fleet.channel() as channel:
                return channel.unary_unary(INFER).future(infer("birds"), timeout=20).code() is Code.UNAUTHENTICATED

        until(gone, 20)


def test_refusals_become_one_entry_of_the_log_that_begins_later(site: Site, tmp_path: Path) -> None:
    site.write('models = ["bird*"]\nburst = 1\nrequests_per_second = 0.01')
    key, jobs = site.key(), site.key("other", "jobs")
    folder, there = tmp_path / "ledger", threading.Event()
    options: dict[str, Any] = {
        "ledger": lambda: folder if there.is_set() else None,
        "worker": WorkerOptions(lambda: None),
    }
    with site.open() as access, serving(access, **options) as served:
        for _ in range(2):
            refused(served, INFER, infer("birds"))
        refused(served, INFER, infer("birds"), bearer(jobs))
        refused(served, METADATA, wire.chunk(1, "cats"), bearer(key))
        refused(served, "/invented/by.Strangers", b"")
        served.post("/v1/models/birds/explain")
        served.post("/v1/models/cats/versions/7/explain")
        served.post("/v1/JobService/ListJobs", key)
        served.post("/v1/JobService/Invented")
        served.post("/v1/models/birds/explain", key)  # takes the rate
        served.post("/v1/models/birds/explain", key)
        open_ledger(settings(folder)).close()
        there.set()
    assert facts(folder) == [
        {
            "calls": {
                "UNAUTHENTICATED": {
                    INFER: 2,
                    "POST /v1/models/{model}/explain": 1,
                    "POST /v1/models/{model}/versions/{version}/explain": 1,
                    "others": 2,
                },
                "PERMISSION_DENIED": {INFER: 1, "POST /v1/JobService/ListJobs": 1},
                "NOT_FOUND": {METADATA: 1},
                "RESOURCE_EXHAUSTED": {"POST /v1/models/{model}/explain": 1},
            }
        }
    ]
