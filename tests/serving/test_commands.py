"""`ouzel up`, `down` and `status`, as processes."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from ouzel.serving import Ports, processes
from ouzel.serving.options import HOST
from ouzel_protos.local import read_serving, read_worker
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
    assert (status.returncode, json.loads(status.stdout)) == (3, {"running": False})


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


def test_options_from_the_environment(ouzel: Ouzel, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    help_text = ouzel("up", "--help").stdout
    variables = {word.strip(";,]") for word in help_text.split() if word.startswith("OUZEL_")}
    assert help_text.count("--") - help_text.count("--help") == len(variables)
    monkeypatch.setenv("OUZEL_MODEL_STORE", str(store))
    monkeypatch.setenv("OUZEL_MODELS", "first second")
    assert "no model 'first'" in refused(Ouzel(ouzel.state)("up"))


@e2e
def test_without_a_worker(ouzel: Ouzel, store: Path) -> None:
    up = ouzel(*arguments(store), "--detach", "--no-worker")
    assert (up.returncode, "Jobs" in up.stdout) == (0, False)
    assert read_worker(ouzel.state) is None
    assert ouzel("down").returncode == 0


@e2e
def test_detached(ouzel: Ouzel, store: Path) -> None:
    write_archive(store / "other.mar")
    up = ouzel(*arguments(store), "--model", "toy", "--detach")
    assert up.returncode == 0
    assert re.fullmatch(r"toy 1 is ready \(1 of 1, \d+\.\d s\)\n", up.stderr)
    serving = read_serving(ouzel.state)
    assert serving is not None
    assert serving["grpc"] in up.stdout

    found = ouzel("status", "--json")
    status = json.loads(found.stdout)
    assert found.returncode == 0
    jobs = status.pop("worker")
    assert f"Jobs        {jobs}" in up.stdout
    assert {**serving, "running": True, "responding": True, "models": status["models"]} == status
    [model] = status["models"]
    [worker] = model["workers"]
    assert (model["name"], model["version"], worker["state"]) == ("toy", "1", "READY")
    assert "toy 1: workers" in ouzel("status").stdout

    assert f"process {serving['pid']}" in refused(ouzel(*arguments(store)))
    assert psutil.pid_exists(serving["pid"])

    started = processes.belonging_to(ouzel.state)
    jobs_worker = read_worker(ouzel.state)
    assert jobs_worker is not None
    assert {process.pid for process in lasting(ouzel.state)} == {serving["pid"], worker["pid"], jobs_worker["pid"]}
    down = ouzel("down")
    assert (down.returncode, down.stdout) == (0, "Stopped.\n")
    assert not any(map(processes.alive, started))
    assert ouzel("status").returncode == 3


@e2e
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, "down"])
def test_foreground_ends_in_order(ending: signal.Signals | str, ouzel: Ouzel, store: Path) -> None:
    with ouzel.running(*arguments(store), until=ouzel.ready) as up:
        started = processes.belonging_to(ouzel.state)
        assert len(lasting(ouzel.state)) == 3  # Java, one worker of the model, one of jobs
        if isinstance(ending, str):
            assert ouzel(ending).stdout == "Stopped.\n"
        else:
            up.send_signal(ending)
        _, complaints = up.communicate(timeout=30)
    assert up.returncode == 0
    assert complaints.splitlines()[1:] in (["Stopped."], ["Stopped by `ouzel down`."])
    assert not any(map(processes.alive, started))
    assert read_serving(ouzel.state) is None


@e2e
@pytest.mark.parametrize("command", ["down", "up"])
def test_killed_foreground_is_cleared_up_after(command: str, ouzel: Ouzel, store: Path) -> None:
    words = arguments(store)
    with ouzel.running(*words, until=ouzel.ready) as up:
        up.kill()
        up.wait()
    left = processes.belonging_to(ouzel.state)
    assert len(lasting(ouzel.state)) == 3
    done = ouzel("down") if command == "down" else ouzel(*words, "--detach")  # the same ports
    assert done.returncode == 0
    assert not any(map(processes.alive, left))
    assert len(lasting(ouzel.state)) == (0 if command == "down" else 3)


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
def test_services_that_die_are_reported(ouzel: Ouzel, store: Path) -> None:
    with ouzel.running(*arguments(store), until=ouzel.ready) as up:
        serving = read_serving(ouzel.state)
        assert serving is not None
        psutil.Process(serving["pid"]).kill()
        _, complaints = up.communicate(timeout=30)
    assert up.returncode == 1
    assert complaints.splitlines()[1].startswith("Error: TorchServe ended by itself")
    assert not processes.belonging_to(ouzel.state)
