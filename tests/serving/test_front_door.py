"""The gateway of `ouzel up`: its options, its health, and that it ends before what it asks."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import trustme

from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.gateway.record import Record
from ouzel.serving import (
    Ports,
    ServingOptions,
    StartFailed,
    config,
    front_door,
    job_worker,
    processes,
    saved_options,
    state_folder,
)
from ouzel.serving.door_options import DoorOptions
from ouzel.serving.supervision import health
from ouzel_protos.local import Gateway, read_gateway


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"host": "0.0.0.0"}, "not loopback"),
        ({"keys": "keys.db"}, "needs tenants"),
        ({"tls_key": Path("key.pem")}, "go together"),
        ({"tls_client_ca": Path("ca.pem")}, "needs tls_certificate"),
    ],
)
def test_options_that_do_not_go_together(given: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        DoorOptions(**given)  # type: ignore[arg-type]


def test_options_are_read_back_and_handed_on(tmp_path: Path) -> None:
    door = DoorOptions("::1", tmp_path / "t.toml", "postgresql://x/y", Path("cert.pem"), Path("key.pem"))
    assert (door.tls_key, door.keys) == (Path.cwd() / "key.pem", "postgresql://x/y")
    options = ServingOptions(state=tmp_path, gateway=True, door=door)
    saved_options.write(options)
    assert saved_options.read(tmp_path) == options
    assert DoorOptions().flags() == ["--host", "127.0.0.1"]
    assert door.flags()[:4] == ["--host", "::1", "--tenants", str(tmp_path / "t.toml")]


@pytest.fixture
def options(tmp_path: Path) -> Iterator[ServingOptions]:
    state_folder.prepare(tmp_path / "state")
    yield ServingOptions(store=tmp_path, state=tmp_path / "state", ports=Ports.free(), gateway=True)
    processes.stop(tmp_path / "state", grace=0)


def begun(options: ServingOptions) -> tuple[front_door.Starting, Gateway]:
    starting = front_door.begin(options)
    assert starting is not None
    return starting, starting.wait()


def test_health_is_told_to_who_has_no_certificate(options: ServingOptions, tmp_path: Path) -> None:
    ca, pair = trustme.CA(), trustme.CA().issue_cert("localhost")
    files = {name: tmp_path / f"{name}.pem" for name in ("tls_certificate", "tls_key", "tls_client_ca", "tenants")}
    files["tls_certificate"].write_bytes(pair.cert_chain_pems[0].bytes())
    files["tls_key"].write_bytes(pair.private_key_pem.bytes())
    files["tls_client_ca"].write_bytes(ca.cert_pem.bytes())
    files["tenants"].write_text("[tenants.acme]\n")
    starting, record = begun(replace(options, door=DoorOptions("0.0.0.0", **files)))
    assert (record["pid"], record["tls"], record["pool"]) == (starting.process.pid, True, False)
    assert record["grpc"] == f"127.0.0.1:{options.ports.gateway_grpc}"
    assert record["rest"] == f"https://127.0.0.1:{options.ports.gateway_rest}"
    assert health.gateway(record["health"], 20) == ""
    assert health.worker(record["grpc"], 20) != ""  # its port asks for a certificate
    assert stat.S_IMODE(options.state.stat().st_mode) == 0o700
    with grpc.insecure_channel(f"unix:{record['health']}") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED  # health is all that the socket tells
    starting.process.terminate()
    assert starting.process.wait(30) == 0
    assert read_gateway(options.state) is None
    assert "no answer" in health.gateway(record["health"], 1)


def test_it_says_why_it_does_not_start(options: ServingOptions, tmp_path: Path) -> None:
    (tmp_path / "tenants.toml").write_text("[tenants.acme]\nburst = 0\n")
    starting = front_door.begin(replace(options, door=DoorOptions(tenants=tmp_path / "tenants.toml")))
    assert starting is not None
    with pytest.raises(StartFailed, match=r"the gateway ended with status 1: .*burst.*; the log is .*gateway\.log"):
        starting.wait()
    _, record = begun(replace(options, pool=True))
    assert record["pool"]  # clients of this machine are to ask it
    again = replace(options, state=tmp_path / "other")
    state_folder.prepare(again.state)
    with pytest.raises(FailedPrecondition, match=f"port {options.ports.gateway_rest} is in use.*--gateway-rest-port"):
        front_door.begin(again)


def test_the_worker_knows_the_tenants_of_the_gateway(options: ServingOptions, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("acme token-of-acme-0123456789\n")
    tokens.chmod(0o600)
    before = os.umask(0o022)  # as shells have it
    try:
        record = job_worker.start(replace(options, door=DoorOptions(worker_tokens=tokens)))
        starting, _ = begun(options)
    finally:
        os.umask(before)
    assert record is not None
    starting.process.terminate()
    starting.process.wait(30)
    logs = [*options.state.glob("*.log")]
    assert {each.name: stat.S_IMODE(each.stat().st_mode) for each in logs} == {
        "gateway.log": 0o600,
        "worker.log": 0o600,
    }
    with grpc.insecure_channel(record["grpc"]) as channel:
        ask = channel.unary_unary("/ouzel.v1.JobService/ListJobs")
        assert ask(b"", metadata=(("authorization", "Bearer token-of-acme-0123456789"),), timeout=20) == b""
        with pytest.raises(grpc.RpcError) as caught:
            ask(b"", metadata=(("authorization", "Bearer token-of-other-0123456789"),), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("listens", "near"),
    [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1"), ("localhost:1", "localhost:1")],
)
def test_the_record_has_addresses_that_can_be_called(listens: str, near: str, tmp_path: Path) -> None:
    Record(tmp_path).write(f"http://{listens}", listens, tls=False, pool=True)
    record = read_gateway(tmp_path)
    assert record is not None
    assert (record["grpc"], record["rest"], record["pool"]) == (near, f"http://{near}", True)
    assert record["listens"] == [f"http://{listens}", listens]  # which operators are shown
    assert state_folder.running_gateway(tmp_path) == record
    Record(tmp_path).close()
    assert read_gateway(tmp_path) is None


_ENDS_LATE = """
import psutil, signal, sys, time
other = psutil.Process(int(sys.argv[1]))
def end(*_):
    time.sleep(0.3)
    sys.exit(7 if other.status() != psutil.STATUS_ZOMBIE else 8)
signal.signal(signal.SIGTERM, end)
print(flush=True)
signal.pause()
"""


def test_the_gateway_ends_before_what_it_asks(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state_folder.prepare(state)

    def started(part: str, code: str, *words: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {config.RUN: str(state / part), processes.PART: part}
        return subprocess.Popen([sys.executable, "-c", code, *words], env=environment, stdout=subprocess.PIPE)

    with started(processes.TORCHSERVE, "import time; time.sleep(60)") as asked:
        with started(processes.GATEWAY, _ENDS_LATE, str(asked.pid)) as gateway:
            assert gateway.stdout is not None
            gateway.stdout.readline()
            assert state_folder.clear(state, grace=20)
            assert gateway.wait(10) == 7
        assert asked.wait(10) != 0
