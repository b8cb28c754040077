"""The real TorchServe, started from Python: what it admits, where it listens, what it leaves behind."""

from __future__ import annotations

import json
import stat
from dataclasses import astuple, replace
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from ouzel import serving
from ouzel.serving import AlreadyRunning, Ports, RunningServing, ServingOptions, StartFailed, loading, processes
from ouzel.serving.options import HOST
from ouzel.torchserve import management, rest
from ouzel.torchserve.archives import Archive
from ouzel.torchserve.management import Settings
from ouzel_protos.local import read_serving, token
from support.services import lasting, write_archive

pytestmark = pytest.mark.e2e

Shared = tuple[RunningServing, ServingOptions]


def predict(running: RunningServing, key: str) -> tuple[int, bytes]:
    return rest.call("POST", f"{running.rest}/predictions/toy", key, body=b"x", kind="application/octet-stream")


def test_a_worker_answers_and_knows_its_limits(services: Shared) -> None:
    running, options = services
    status, body = predict(running, running.inference_token)
    answer = json.loads(body)
    assert status == 200
    assert answer["parts"] == ["body"]
    assert (answer["pid"],) == running.worker_pids()
    assert (
        answer["environment"].items()
        >= {
            "OUZEL_MAX_RESPONSE_BYTES": str(options.max_response_bytes),
            "OUZEL_MAX_PASSES": str(options.max_passes),
            "OUZEL_THREADS": "3",
            "OMP_NUM_THREADS": "3",
        }.items()
    )


def test_clients_find_it(services: Shared) -> None:
    running, options = services
    record = read_serving(options.state)
    assert record is not None
    assert (record["pid"], record["grpc"], record["rest"]) == (running.pid, running.grpc, running.rest)
    assert (record["models"], record["model_store"]) == (["toy"], str(options.store))
    assert token(record["key_file"], "inference") == running.inference_token


def test_tokens_are_required_and_private(services: Shared) -> None:
    running, _ = services
    assert predict(running, "")[0] == 400
    assert predict(running, running.management_token)[0] == 400
    assert rest.call("GET", f"{running.management}/models", running.inference_token)[0] == 400
    assert stat.S_IMODE(running.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(running.key_file.parent.stat().st_mode) == 0o700


def test_listens_on_loopback_only(services: Shared) -> None:
    _, options = services
    listening = [
        connection.laddr
        for process in processes.belonging_to(options.state)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {HOST}
    assert {address.port for address in listening} == set(astuple(options.ports)) - {
        options.ports.worker,
        options.ports.gateway_rest,
        options.ports.gateway_grpc,
    }  # neither was asked for


def test_metrics_are_those_of_prometheus(services: Shared) -> None:
    running, _ = services
    predict(running, running.inference_token)
    status, body = rest.call("GET", f"{running.metrics}/metrics", "")
    assert status == 200
    assert b"# TYPE ts_inference_requests_total counter" in body


def test_only_the_store_can_be_registered_from(services: Shared) -> None:
    running, options = services
    outside = options.store.parent / "outside.mar"
    write_archive(outside)

    def register(url: str, key: str) -> tuple[int, bytes]:
        return rest.call("POST", f"{running.management}/models?model_name=new&url={quote(url, safe='')}", key)

    for foreign in (f"file://{outside}", "http://127.0.0.1:9/other.mar"):
        status, body = register(foreign, running.management_token)
        assert (status, b"does not match any allowed URL" in body) == (404, True)
    for relative in (f"file://{options.store}/../outside.mar", "../outside.mar"):
        status, body = register(relative, running.management_token)
        assert (status, b"Relative path is not allowed" in body) == (404, True)
    assert register("other.mar", running.inference_token)[0] == 400
    assert register("other.mar", running.management_token)[0] == 200
    reported = serving.status(options.state)
    assert reported is not None
    assert [model.name for model in reported.models] == ["new", "toy"]
    assert rest.call("DELETE", f"{running.management}/models/new", running.management_token)[0] == 200


def test_a_second_start_does_not_disturb_the_first(services: Shared) -> None:
    running, options = services
    before = running.worker_pids()
    with (
        pytest.raises(AlreadyRunning, match=f"already running at {running.grpc}.* process {running.pid}"),
        serving.start(replace(options, ports=Ports.free())),
    ):
        pass
    assert running.worker_pids() == before
    assert predict(running, running.inference_token)[0] == 200


def test_another_state_folder_is_another_set_and_nothing_remains(services: Shared, store: Path, tmp_path: Path) -> None:
    running, _ = services
    options = ServingOptions(store=store, state=tmp_path / "state", ports=Ports.free(), workers=2)
    with serving.start(options) as second:
        started = processes.belonging_to(options.state)
        assert {process.pid for process in lasting(options.state)} == {second.pid, *second.worker_pids()}
        assert len(second.worker_pids()) == 2
        assert predict(second, second.inference_token)[0] == 200
        assert predict(second, running.inference_token)[0] == 400
    assert not any(map(processes.alive, started))
    assert sorted(path.name for path in options.state.iterdir()) == ["lock", "torchserve.log"]
    assert predict(running, running.inference_token)[0] == 200


def test_a_start_with_a_model_that_does_not_load(tmp_path: Path) -> None:
    write_archive(tmp_path / "store" / "toy.mar", "raise RuntimeError('weights do not fit')")
    options = ServingOptions(store=tmp_path / "store", state=tmp_path / "state", ports=Ports.free())
    told = "model toy 1 does not load: RuntimeError: weights do not fit; the log is"
    with pytest.raises(StartFailed, match=told), serving.start(options):
        pass
    assert not processes.belonging_to(options.state)
    assert read_serving(options.state) is None


@pytest.mark.parametrize(
    ("name", "load", "reason"),
    [
        ("missing", "import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("silent", "os._exit(3)", "its worker died without a word"),
    ],
)
def test_why_a_model_does_not_load(services: Shared, name: str, load: str, reason: str) -> None:
    running, options = services
    path = options.store / f"{name}.mar"
    write_archive(path, load)
    try:
        with pytest.raises(StartFailed, match=f"model {name} 1 does not load: {reason}; the log is"):
            loading.load(running, [Archive(name, "1", path)], Settings(), 60)
    finally:
        management.unregister(running.server, name, "1")
        path.unlink()


def test_a_model_that_takes_too_long(services: Shared) -> None:
    running, options = services
    path = options.store / "slow.mar"
    write_archive(path, "time.sleep(300)")
    patience = r"model slow 1 was not ready after 2 s \(--timeout SECONDS or OUZEL_TIMEOUT gives it longer\); the log"
    try:
        with pytest.raises(StartFailed, match=patience):
            loading.load(running, [Archive("slow", "1", path)], Settings(), 2)
    finally:
        management.unregister(running.server, "slow", "1")
        path.unlink()


def test_java_that_cannot_start(store: Path, tmp_path: Path) -> None:
    options = ServingOptions(store=store, state=tmp_path / "state", ports=Ports.free(), heap_mb=1)
    with pytest.raises(StartFailed, match=r"TorchServe ended with status 1: .*heap"), serving.start(options):
        pass
