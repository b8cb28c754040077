"""The gateway as its own process: how it starts, and how it stops."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ouzel.errors import InvalidArgument
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses
from ouzel_client import Client, NotFound, Unauthenticated
from support import oip_bytes as wire
from support.gateway import call, pictures, png
from support.jobs import until, worker

INFER = "/inference.GRPCInferenceService/ModelInfer"
ONE = wire.infer("toy", [wire.tensor("image", "BYTES", (1,))], [wire.elements(png(pictures(1)[0]))])


def lasting(samples: int) -> bytes:
    """A request that takes time."""
    parameters = [wire.parameter("method", "smoothgrad"), wire.parameter("samples", samples)]
    images = [wire.elements(*map(png, pictures(8)))]
    outputs = [wire.chunk(1, "saliency")]
    return wire.infer("toy", [wire.tensor("image", "BYTES", (8,))], images, parameters=parameters, outputs=outputs)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "ouzel.cli.gateway", *words]


@contextmanager
def started(store: Path | None, state: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], Addresses]]:
    """store: of models that it computes itself; None, and it waits for a TorchServe and imports no torch."""
    engine = ["--engine", "in-process", "--store", str(store)] if store else []
    flags = [*engine, "--state", str(state), *words]
    ports = ["--rest-port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(command(*flags, *ports), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        match = re.search(r"REST is served at (\S+), gRPC at (\S+)\. ", process.stdout.readline())
        assert match, process.communicate()
        yield process, Addresses(match[1], match[2])
    finally:
        process.kill()
        process.communicate()


def test_on_sigterm_calls_under_way_are_finished(store: Path, tmp_path: Path) -> None:
    with started(store, tmp_path) as (process, addresses), grpc.insecure_channel(addresses.grpc) as channel:
        ask = channel.unary_unary(INFER)
        health = health_pb2_grpc.HealthStub(channel)
        ask(ONE, timeout=60, wait_for_ready=True)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        assert call(addresses, "GET", "/v2/health/ready")[0] == 200
        with ThreadPoolExecutor(1) as threads:
            slow = threads.submit(ask, lasting(96), timeout=120)
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 20
            while call(addresses, "GET", "/v2/health/ready")[0] == 200:
                assert time.monotonic() < deadline
            assert not slow.done()
            assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(grpc.RpcError) as caught:
                ask(ONE, timeout=20)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            status, headers, _ = call(addresses, "POST", "/v1/models/toy/explain", b"x")
            assert (status, headers["retry-after"]) == (503, "1")
            assert len(wire.of(slow.result(), 6)[0]) == 8 * 64 * 64 * 4
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_what_is_under_way_too_long_is_cut_off(store: Path, tmp_path: Path) -> None:
    with (
        started(store, tmp_path, "--grace", "0.1") as (process, addresses),
        grpc.insecure_channel(addresses.grpc) as channel,
        ThreadPoolExecutor(1) as threads,
    ):
        ask = channel.unary_unary(INFER)
        ask(ONE, timeout=60, wait_for_ready=True)
        slow = threads.submit(ask, lasting(512), timeout=120)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            slow.result()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert process.wait(30) == 0


def test_a_second_signal_ends_what_the_first_one_waits_for(store: Path, tmp_path: Path) -> None:
    with (
        started(store, tmp_path, "--grace", "3600") as (process, addresses),
        grpc.insecure_channel(addresses.grpc) as channel,
        ThreadPoolExecutor(1) as threads,
    ):
        ask = channel.unary_unary(INFER)
        ask(ONE, timeout=120, wait_for_ready=True)
        slow = threads.submit(ask, lasting(512), timeout=3600)
        until(lambda: call(addresses, "GET", "/v2/health/ready")[0] == 200)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        until(lambda: call(addresses, "GET", "/v2/health/ready")[0] == 503)
        assert not slow.done()
        process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            slow.result()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert process.wait(60) == 0


def test_ports_that_are_taken_are_named(tmp_path: Path) -> None:
    with started(None, tmp_path) as (_, addresses):
        for flag, address in (("--rest-port", addresses.rest), ("--grpc-port", addresses.grpc)):
            port = address.rpartition(":")[2]
            other = "--grpc-port" if flag == "--rest-port" else "--rest-port"
            words = command("--state", str(tmp_path / "other"), flag, port, other, "0")
            result = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
            assert result.returncode == 1
            assert f"{port} of 127.0.0.1 is in use" in result.stderr
            assert "Traceback" not in result.stderr


def test_strangers_need_access_control() -> None:
    for host in ("0.0.0.0", "192.0.2.1", "::", "example.org"):
        with pytest.raises(InvalidArgument, match="nothing says who may call"):
            GatewayOptions(host=host)
    GatewayOptions(host="::1")
    environment = os.environ | {"OUZEL_GATEWAY_HOST": "0.0.0.0"}
    result = subprocess.run(command(), capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert result.returncode == 1
    assert "nothing says who may call" in result.stderr


def test_the_process_before_torchserve_loads_no_torch(tmp_path: Path) -> None:
    """Nor does it to draw a map over a picture."""
    program = f"""
import sys
import numpy as np
import ouzel.gateway.server, ouzel.gateway.engines.torchserve
from ouzel.gateway.explain import PNG, _rendered
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb
answer = pb.Explanation(view=pb.View(image_width=32, image_height=32, right=32, bottom=32))
answer.saliency.add(method="gradient", values=tensors.encode(np.eye(16, dtype=np.float32)))
print(_rendered(answer, {png(pictures(1)[0])!r}, PNG)[0][:4], "torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "b'\\x89PNG' False\n"


def test_with_tenants_and_tls_only_holders_of_a_key_come_in(store: Path, tmp_path: Path) -> None:
    ca = trustme.CA()
    own = ca.issue_cert("localhost", "127.0.0.1")
    certificate, key, root = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    certificate.write_bytes(b"".join(each.bytes() for each in own.cert_chain_pems))
    own.private_key_pem.write_to_path(key)
    ca.cert_pem.write_to_path(root)
    tenants = tmp_path / "tenants.toml"
    tenants.write_text('[tenants.acme]\nmodels = ["t*"]\n')
    environment = os.environ | {"OUZEL_KEYS": str(tmp_path / "keys.db")}
    keys = [sys.executable, "-c", "from ouzel_client._cli.main import main; main()", "keys"]
    made = subprocess.run(
        [*keys, "create", "robot", "--tenant", "acme", "--json"], env=environment, capture_output=True, check=True
    )
    named = json.loads(made.stdout)
    flags = ["--tenants", str(tenants), "--keys", environment["OUZEL_KEYS"], "--no-worker"]
    tls = ["--tls-certificate", str(certificate), "--tls-key", str(key), "--host", "0.0.0.0"]
    with started(store, tmp_path, *flags, *tls) as (process, addresses):
        port = addresses.grpc.rpartition(":")[2]
        credentials = grpc.ssl_channel_credentials(root.read_bytes())
        with Client(f"localhost:{port}", token=named["key"], credentials=credentials, timeout=300) as client:
            assert client.models["toy"].explain(png(pictures(1)[0]), saliency="gradient").saliency["gradient"]
            with pytest.raises(NotFound):
                client.models["other"].explain(png(pictures(1)[0]))
            with (
                Client(f"localhost:{port}", token="guessed", credentials=credentials) as stranger,
                pytest.raises(Unauthenticated),
            ):
                stranger.models["toy"].explain(png(pictures(1)[0]))
            context = ssl.create_default_context(cafile=str(root))
            url = f"https://localhost:{addresses.rest.rpartition(':')[2]}/v2/models/toy"
            asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {named['key']}"})
            assert json.load(urllib.request.urlopen(asked, context=context, timeout=30))["name"] == "toy"
            with pytest.raises(urllib.error.HTTPError, match="401") as stopped:
                urllib.request.urlopen(url, context=context, timeout=30)
            assert stopped.value.headers["WWW-Authenticate"].startswith("Bearer")
            bearer = f"Bearer {named['key']}"
            twice = http.client.HTTPSConnection("localhost", int(addresses.rest.rpartition(":")[2]), context=context)
            twice.putrequest("GET", "/v2/models/toy")
            for text in (bearer, "Bearer guessed"):
                twice.putheader("Authorization", text)
            twice.endheaders()
            assert twice.getresponse().status == 401
            twice.close()
            both = (("authorization", "Bearer guessed"), ("authorization", bearer))
            with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
                ask = channel.unary_unary(INFER)
                with pytest.raises(grpc.RpcError, match="more than once") as denied:
                    ask(ONE, timeout=30, metadata=both)
            assert denied.value.code() is grpc.StatusCode.UNAUTHENTICATED
            subprocess.run([*keys, "revoke", named["id"]], env=environment, check=True, capture_output=True)

            def refused() -> bool:
                try:
                    client.models["toy"].explain(png(pictures(1)[0]))
                except Unauthenticated:
                    return True
                return False

            until(refused, 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--keys", "k.db"], "--keys needs --tenants"),
        (["--tls-key", "key.pem"], "--tls-certificate and --tls-key go together"),
        (["--tenants", "nowhere.toml"], "nowhere.toml"),
        (["--host", "0.0.0.0"], "not loopback"),
    ],
)
def test_half_an_access_is_refused(tmp_path: Path, words: list[str], told: str) -> None:
    done = subprocess.run(
        command("--state", str(tmp_path), *words), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_with_a_state_folder_of_its_own(tmp_path: Path) -> None:
    beside = tmp_path / "jobs"
    with (
        worker(f"sqlite://{tmp_path / 'jobs.db'}", beside, "--no-fork"),
        started(None, tmp_path / "door") as (_, without),
        started(None, tmp_path / "door", "--worker-state", str(beside)) as (_, addresses),
    ):
        assert call(without, "POST", "/v1/JobService/ListJobs", b"{}")[0] == 503
        status, _, body = call(addresses, "POST", "/v1/JobService/ListJobs", b"{}")
        assert (status, json.loads(body)["jobs"]) == (200, [])
    words = ["--worker", "127.0.0.1:1", "--worker-state", str(beside)]
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "exclude each other" in done.stderr
