"""The gateway as its own process: how it starts, and how it stops."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ouzel.errors import InvalidArgument
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses
from support import oip_bytes as wire
from support.gateway import call, pictures, png

INFER = "/inference.GRPCInferenceService/ModelInfer"
ONE = wire.infer("toy", [wire.tensor("image", "BYTES", (1,))], [wire.elements(png(pictures(1)[0]))])
SLOW = wire.infer(
    "toy", [wire.tensor("image", "BYTES", (8,))], [wire.elements(*map(png, pictures(8)))],
    parameters=[wire.parameter("method", "smoothgrad"), wire.parameter("samples", 48)],
    outputs=[wire.chunk(1, "saliency")],
)  # fmt: skip


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "ouzel.cli.gateway", *words]


@contextmanager
def started(store: Path, state: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], Addresses]]:
    flags = ["--engine", "in-process", "--store", str(store), "--state", str(state), *words]
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
            slow = threads.submit(ask, SLOW, timeout=120)
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
        slow = threads.submit(ask, SLOW, timeout=120)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            slow.result()
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert process.wait(30) == 0


def test_ports_that_are_taken_are_named(store: Path, tmp_path: Path) -> None:
    with started(store, tmp_path) as (_, addresses):
        for flag, address in (("--rest-port", addresses.rest), ("--grpc-port", addresses.grpc)):
            port = address.rpartition(":")[2]
            other = "--grpc-port" if flag == "--rest-port" else "--rest-port"
            words = command("--engine", "in-process", "--store", str(store), flag, port, other, "0")
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
    program = "import sys; import ouzel.gateway.server, ouzel.gateway.engines.torchserve; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "False\n"
