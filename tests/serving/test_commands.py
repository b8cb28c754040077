"""`ouzel up`, `down` and `status`, as processes."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from ouzel.serving import Ports, processes
from ouzel.serving.options import HOST
from ouzel.serving.supervision import journal
from ouzel_protos.local import read_gateway, read_serving, read_worker, token
from support.services import Ouzel, arguments, lasting, write_archive

e2e = pytest.mark.e2e


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that failed."""
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_nothing_runs(ouzel: Ouzel) -> None:
    down, status = ouzel("down"), ouzel("status", "--json")
    assert (down.returncode, down.stdout) == (0, "Nothing is running.\n")
    assert (status.returncode, json.loads(status.stdout)) == (
        3,
        {"running": False, "well": False, "parts": []},
    )


def test_port_in_use(ouzel: Ouzel, store: Path) -> None:
    ports = Ports.free()
    with socket.create_server((HOST, ports.metrics)):
        line = refused(ouzel(*arguments(store, ports)))
    assert f"port {ports.metrics} is in use" in line
    assert "--metrics-port or OUZEL_METRICS_PORT" in line


def test_what_cannot_be_served(ouzel: Ouzel, store: Path, tmp_path: Path) -> None:
    assert "no model 'net'" in refused(ouzel(*arguments(store), "--model", "net"))
    assert "there is no model store" in refused(ouzel(*arguments(tmp_path / "none")))
    (store / "toy.mar").write_bytes(b"not a zip")
    assert "toy.mar is not a model archive" in refused(ouzel(*arguments(store)))
    (store / "toy.mar").unlink()
    assert "holds no model" in refused(ouzel(*arguments(store)))


def test_a_door_that_cannot_stand_is_told_before_models_load(ouzel: Ouzel, store: Path, tmp_path: Path) -> None:
    tenants, pem = tmp_path / "tenants.toml", tmp_path / "x.pem"
    up = [each for each in arguments(store) if each != "--no-gateway"]
    assert "cannot be read" in refused(ouzel(*up, "--tenants", str(tenants)))
    tenants.write_text("[tenants.acme]\nburst = 0\n")
    assert "burst" in refused(ouzel(*up, "--tenants", str(tenants)))
    pem.write_text("no certificate")
    line = refused(ouzel(*up, "--tls-certificate", str(pem), "--tls-key", str(pem)))
    assert "holds no certificate in PEM" in line


def test_options_from_the_environment(ouzel: Ouzel, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    help_text = ouzel("up", "--help").stdout
    variables = {word.strip(";,]") for word in help_text.split() if word.startswith("OUZEL_")}
    options = {line.split()[0] for line in help_text.splitlines() if line.startswith("  --")}
    assert len(options - {"--help"}) == len(variables)
    monkeypatch.setenv("OUZEL_MODEL_STORE", str(store))
    monkeypatch.setenv("OUZEL_MODELS", "first second")
    assert "no model 'first'" in refused(Ouzel(ouzel.state)("up"))


def recorded(ouzel: Ouzel) -> dict[str, int]:
    """Process ids of the parts, by name, as far as they are recorded."""
    watch, serving, worker = journal.read(ouzel.state), read_serving(ouzel.state), read_worker(ouzel.state)
    pids = {"supervisor": watch and watch.pid, "torchserve": serving and serving["pid"]}
    gateway = read_gateway(ouzel.state)
    pids |= {"worker": worker and worker["pid"], "gateway": gateway and gateway["pid"]}
    return {name: pid for name, pid in pids.items() if pid}


def states(ouzel: Ouzel, code: int) -> dict[str, str]:
    """What `ouzel status` says of each part."""
    shown = ouzel("status", "--json")
    assert shown.returncode == code, shown.stdout
    return _states(json.loads(shown.stdout)["parts"])


def _states(parts: list[dict[str, Any]]) -> dict[str, str]:
    """On a machine that has other work as well, "busy" is all that can be asked for."""
    return {part["name"]: "up" if part["state"] == "busy" else part["state"] for part in parts}


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


WELL = {"supervisor": "up", "torchserve": "up", "worker": "up", "gateway": "up", "toy 1": "up"}


@dataclass(frozen=True)
class Detached:
    """Services that run in the background: the command, what it said, and their model store."""

    ouzel: Ouzel
    up: subprocess.CompletedProcess[str]
    store: Path


@pytest.fixture(scope="module")
def detached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Detached]:
    """Of two models, one is served. The last test that asks for them ends them."""
    folder = tmp_path_factory.mktemp("detached")
    ouzel, store = Ouzel(folder / "state"), folder / "store"
    for name in ("toy", "other"):
        write_archive(store / f"{name}.mar")
    yield Detached(ouzel, ouzel(*arguments(store), "--model", "toy", "--detach", "--hung-after", "3"), store)
    processes.stop(ouzel.state, grace=0)


@e2e
def test_detached(detached: Detached) -> None:
    ouzel, up, store = detached.ouzel, detached.up, detached.store
    assert up.returncode == 0
    assert re.fullmatch(r"toy 1 is ready \(1 of 1, \d+\.\d s\)\n", up.stderr)
    serving = read_serving(ouzel.state)
    assert serving is not None
    assert serving["grpc"] in up.stdout

    shown = ouzel("status", "--json")
    status = json.loads(shown.stdout)
    assert shown.returncode == 0
    jobs, gateway = status.pop("worker"), status.pop("gateway")
    assert gateway == read_gateway(ouzel.state)
    assert f"{gateway['rest']} and {gateway['grpc']}" in up.stdout
    assert _states(status.pop("parts")) == WELL
    assert status.pop("well")
    assert f"Jobs        {jobs}" in up.stdout
    assert {**serving, "running": True, "responding": True, "models": status["models"]} == status
    [model] = status["models"]
    [worker] = model["workers"]
    assert (model["name"], model["version"], worker["state"]) == ("toy", "1", "READY")
    assert f"process {serving['pid']}" in refused(ouzel(*arguments(store)))
    assert psutil.pid_exists(serving["pid"])

    jobs_worker = read_worker(ouzel.state)
    assert jobs_worker is not None
    assert {process.pid for process in lasting(ouzel.state)} == {worker["pid"], *recorded(ouzel).values()}
    assert len(recorded(ouzel)) == 4


@e2e
def test_foreground_without_worker_and_gateway_ends_by_down(ouzel: Ouzel, store: Path) -> None:
    """On SIGTERM it ends in `tests/test_compose.py`."""
    with ouzel.running(*arguments(store), "--no-worker", "--no-gateway", until=ouzel.watched) as up:
        started = processes.belonging_to(ouzel.state)
        assert len(lasting(ouzel.state)) == 2  # Java, and the process of the model
        assert (read_worker(ouzel.state), read_gateway(ouzel.state)) == (None, None)
        assert ouzel("down").stdout == "Stopped.\n"
        said, complaints = up.communicate(timeout=30)
    assert up.returncode == 0
    assert complaints.splitlines()[1:] == ["Stopped."]
    assert ("Jobs" in said, "Gateway" in said) == (False, False)
    assert not any(map(processes.alive, started))
    assert read_serving(ouzel.state) is None


@e2e
def test_killed_foreground_is_taken_over_or_stopped(ouzel: Ouzel, store: Path) -> None:
    with ouzel.running(*arguments(store), until=ouzel.watched) as up:
        up.kill()
        up.wait()
    before = recorded(ouzel)
    assert states(ouzel, 4) == WELL | {"supervisor": "down"}
    done = ouzel("up", "--detach")  # with the options of the run before
    assert (done.returncode, "Kept what was running" in done.stdout) == (0, True)
    after = recorded(ouzel)
    assert after == before | {"supervisor": after["supervisor"]}
    assert states(ouzel, 0) == WELL
    psutil.Process(after["supervisor"]).kill()
    left = processes.belonging_to(ouzel.state)
    assert ouzel("down").stdout == "Stopped.\n"
    assert not any(map(processes.alive, left))
    assert ouzel("status").returncode == 3


@e2e
def test_signal_before_it_is_ready(ouzel: Ouzel, tmp_path: Path) -> None:
    loading = tmp_path / "loading"
    write_archive(tmp_path / "store" / "toy.mar", f"open({str(loading)!r}, 'w').close(); time.sleep(300)")
    with ouzel.running(*arguments(tmp_path / "store"), until=loading.exists) as up:
        up.send_signal(signal.SIGTERM)
        _, complaints = up.communicate(timeout=30)
    assert up.returncode == 128 + signal.SIGTERM
    assert complaints == "Stopped before the services were ready.\n"
    assert not processes.belonging_to(ouzel.state)


@e2e
def test_what_dies_or_hangs_is_started_again(detached: Detached) -> None:
    ouzel = detached.ouzel
    first = recorded(ouzel)

    psutil.Process(first["worker"]).suspend()
    assert states(ouzel, 4) == WELL | {"worker": "not answering"}
    until(lambda: recorded(ouzel).get("worker") not in (None, first["worker"]))
    second = recorded(ouzel)

    serving = read_serving(ouzel.state)
    assert serving is not None
    key = token(serving["key_file"], "inference")
    psutil.Process(second["torchserve"]).kill()
    until(lambda: read_serving(ouzel.state) is None)  # noticed
    shown = ouzel("status")
    assert (shown.returncode, "torchserve (restarting)" in shown.stderr) == (4, True)
    assert f"{second['worker']}" in shown.stdout
    done = ouzel("up", "--detach")
    third = recorded(ouzel)
    assert (done.returncode, f"Started again: torchserve, process {third['torchserve']}" in done.stdout) == (0, True)
    assert third == second | {"torchserve": third["torchserve"]}
    again = read_serving(ouzel.state)
    assert again is not None
    assert {**serving, "pid": 0, "create_time": 0, "key_file": ""} == {
        **again,
        "pid": 0,
        "create_time": 0,
        "key_file": "",
    }
    assert token(again["key_file"], "inference") != key

    assert "already running" in refused(ouzel("up", "--detach"))
    assert states(ouzel, 0) == WELL
    assert "restarted once at" in ouzel("status").stdout
    started = processes.belonging_to(ouzel.state)
    down = ouzel("down")
    assert (down.returncode, down.stdout) == (0, "Stopped.\n")
    assert not any(map(processes.alive, started))
    assert ouzel("status").returncode == 3
    assert sorted(path.name for path in ouzel.state.iterdir()) == [
        "gateway.log",
        "jobs",
        "ledger",
        "lock",
        "supervisor.log",
        "torchserve.log",
        "torchserve.log.1",
        "worker.log",
    ]


@e2e
def test_foreground_starts_again_what_dies_and_ends_in_order(ouzel: Ouzel, store: Path) -> None:
    with ouzel.running(*arguments(store), until=ouzel.watched) as up:
        assert len(lasting(ouzel.state)) == 4  # Java, the process of the model, the worker, the gateway
        first = recorded(ouzel)
        for part in ("worker", "gateway"):
            psutil.Process(first[part]).kill()
            until(lambda part=part: recorded(ouzel).get(part) not in (None, first[part]))
        again = {part: recorded(ouzel)[part] for part in ("worker", "gateway")}
        assert recorded(ouzel) == first | again | {"supervisor": up.pid}
        started = processes.belonging_to(ouzel.state)
        up.send_signal(signal.SIGINT)
        said, complaints = up.communicate(timeout=30)
    assert up.returncode == 0
    assert "Jobs" in said
    assert "Gateway" in said
    assert "worker was not running; it is started again" in complaints
    assert "gateway was not running; it is started again" in complaints
    assert complaints.splitlines()[-1] == "Stopped."
    assert not any(map(processes.alive, started))
    assert read_serving(ouzel.state) is None
