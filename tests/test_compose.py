"""docker-compose.yml: what it promises, and its very commands, health checks and signals as plain processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from ouzel.cli.gateway import gateway
from ouzel.cli.services import up
from ouzel.gateway.access.tenants_file import parse
from ouzel.serving import Ports, ServingOptions
from support.services import write_archive

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_hardened_and_on_loopback(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["healthcheck"]["test"][0] == "CMD"
    named = {volume.partition(":")[0] for volume in service["volumes"]}
    files = {place for place in named if place.startswith("./")}
    assert all((ROOT / place).is_file() for place in files)
    assert named - files <= COMPOSE["volumes"].keys()


def test_the_gpu_is_asked_for_in_its_profile_only() -> None:
    assert [name for name, service in SERVICES.items() if "gpu" in service.get("profiles", [])] == ["worker-gpu"]
    assert [name for name, service in SERVICES.items() if "deploy" in service] == ["worker-gpu"]
    gpu, cpu = SERVICES["worker-gpu"], SERVICES["worker"]
    assert (gpu["command"], gpu["healthcheck"], gpu["environment"]) == (
        cpu["command"],
        cpu["healthcheck"],
        cpu["environment"],
    )


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_worker_can_publish_what_it_has_tuned(name: str) -> None:
    """It writes the model store, and finds TorchServe's management API, on loopback, with its tokens."""
    service, torchserve = SERVICES[name], SERVICES["torchserve"]
    assert service["network_mode"] == "service:torchserve"
    assert service["depends_on"]["torchserve"]["condition"] == "service_healthy"
    assert "ports" not in service
    volumes = {place.split(":")[0]: place.split(":")[1:] for place in service["volumes"]}
    assert volumes["models"] == [service["environment"]["OUZEL_MODEL_STORE"]]
    # The record in it names files by their paths, so that it must lie at the same place.
    assert volumes["serving"] == [service["environment"]["OUZEL_WORKER_SERVING_STATE"], "ro"]
    assert volumes["ledger"] == [service["environment"]["OUZEL_LEDGER"]]
    assert "ledger:" + torchserve["environment"]["OUZEL_LEDGER"] in torchserve["volumes"]  # one log of both
    assert torchserve["environment"]["OUZEL_STATE"] == service["environment"]["OUZEL_WORKER_SERVING_STATE"]
    assert any(port.endswith(":7090") for port in torchserve["ports"])


def test_the_gateway_finds_both_and_changes_neither() -> None:
    service, torchserve, worker = (SERVICES[name] for name in ("gateway", "torchserve", "worker"))
    environment = service["environment"]
    assert service["network_mode"] == "service:torchserve"
    assert service["image"] == torchserve["image"]
    assert environment["OUZEL_STATE"] == torchserve["environment"]["OUZEL_STATE"]
    assert environment["OUZEL_GATEWAY_WORKER_STATE"] == worker["environment"]["OUZEL_STATE"]
    assert {"serving:/state:ro", "jobs:/jobs:ro", "models:/models:ro"} <= set(service["volumes"])
    inside = {port.rpartition(":")[2] for port in torchserve["ports"]}
    assert {str(Ports.gateway_rest), str(Ports.gateway_grpc)} <= inside
    # `ouzel keys` in it writes where it reads.
    assert environment["OUZEL_KEYS"] == environment["OUZEL_GATEWAY_KEYS"]
    parsed = parse((ROOT / "docker" / "tenants.toml").read_bytes(), Path("tenants.toml"))
    assert parsed.tenants.keys() == {"local"}


def test_the_image_starts_what_the_file_starts() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for name in ("torchserve", "worker"):
        command = ", ".join(f'"{word}"' for word in SERVICES[name]["command"])
        assert f"CMD [{command}]" in text


def test_what_the_file_sets_is_an_option_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {param.envvar: param for param in up.params}
    environment = SERVICES["torchserve"]["environment"]
    unknown = environment.keys() - options.keys()
    assert unknown == {"OUZEL_LEDGER"}  # which its processes read themselves
    door = {param.envvar for param in gateway.params}
    assert SERVICES["gateway"]["environment"].keys() - door == {"OUZEL_LEDGER", "OUZEL_KEYS"}
    passed = {name for name, value in environment.items() if value == f"${{{name}:-}}"}
    assert passed == {"OUZEL_PRECISION", "OUZEL_WORKERS", "OUZEL_BATCH_SIZE", "OUZEL_TIMEOUT"}
    for name in passed:  # as compose passes on what is not set
        monkeypatch.setenv(name, "")
    chosen = up.make_context("up", []).params
    assert (chosen["precision"], chosen["workers"], chosen["batch_size"]) == (None, None, None)
    assert chosen["timeout"] == ServingOptions(Path()).timeout
    monkeypatch.setenv("OUZEL_WORKERS", "auto")
    monkeypatch.setenv("OUZEL_PRECISION", "tf32")
    chosen = up.make_context("up", []).params
    assert (chosen["precision"], chosen["workers"]) == ("tf32", "auto")


def _found(words: list[str]) -> list[str]:
    """The commands of this environment instead of the image's."""
    return [str(Path(sys.executable).parent / words[0]), *words[1:]]


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["torchserve", "worker", "gateway"])
def test_the_commands_as_processes(name: str, tmp_path: Path) -> None:
    service = SERVICES[name]
    write_archive(tmp_path / "models" / "toy.mar")
    places = {"/state": str(tmp_path / "state"), "/models": str(tmp_path / "models"), "/jobs": str(tmp_path / "jobs")}
    places |= {"/ledger": str(tmp_path / "ledger"), "/door/keys.db": str(tmp_path / "keys.db")}
    places["/etc/ouzel/tenants.toml"] = str(ROOT / "docker" / "tenants.toml")
    own = {key: places.get(value, "") for key, value in service["environment"].items()}
    ports = {f"OUZEL_{key.upper()}_PORT": str(port) for key, port in asdict(Ports.free()).items()}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OUZEL_") or "WARM_UP" in key}
    process = subprocess.Popen(
        _found(service["command"]), env=kept | ports | own, cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    try:
        port = ports["OUZEL_GATEWAY_REST_PORT"]
        check = [word.replace(":8000/", f":{port}/") for word in _found(service["healthcheck"]["test"][1:])]
        deadline = time.monotonic() + 150
        while subprocess.run(check, env=kept | own, capture_output=True, check=False, timeout=30).returncode != 0:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(float(service["stop_grace_period"].removesuffix("s"))) == 0
        assert not psutil.wait_procs(children, timeout=10)[1]  # they end with the one that started them
        assert subprocess.run(check, env=kept | own, capture_output=True, check=False, timeout=30).returncode != 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
            subprocess.run(_found(["ouzel", "down"]), env=kept | own, capture_output=True, check=False, timeout=60)
