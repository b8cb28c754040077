"""What `status` says of parts that live but do not answer."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from ouzel import serving
from ouzel.serving import Ports, ServingOptions, state_folder
from ouzel.serving.saved_options import read, write
from ouzel.serving.supervision import health, journal
from ouzel.serving.supervision.journal import Restarts, Supervision
from ouzel.serving.supervision.status import Part, State, status
from ouzel_protos.local import OPTIONS, Serving


def nobody(state: Path) -> Serving:
    """A record of services whose process has ended."""
    ports = Ports.free()
    return {
        "pid": os.getpid(),
        "create_time": 1.0,
        "grpc": f"127.0.0.1:{ports.grpc}",
        "rest": f"http://127.0.0.1:{ports.rest}",
        "management": f"http://127.0.0.1:{ports.management}",
        "metrics": f"http://127.0.0.1:{ports.metrics}",
        "key_file": str(state / "key_file.json"),
        "model_store": str(state),
        "models": ["toy"],
    }


def watched(state: Path, **parts: Restarts) -> None:
    """A record that this very process is the supervisor."""
    journal.write(state, Supervision(os.getpid(), psutil.Process().create_time(), 60.0, parts))


def test_nothing_runs_whatever_is_recorded(tmp_path: Path) -> None:
    assert status(tmp_path) is None
    write(ServingOptions(state=tmp_path, worker=True))
    state_folder.record(tmp_path, nobody(tmp_path))
    journal.write(tmp_path, Supervision(os.getpid(), 1.0, 60.0, {}))
    assert status(tmp_path) is None


def test_what_the_supervisor_is_about_to_do(tmp_path: Path) -> None:
    write(ServingOptions(state=tmp_path, worker=True))
    trouble = Restarts(3, 1e9, "its process has ended", "port 1 is in use", next=1e9)
    watched(
        tmp_path,
        torchserve=trouble,
        worker=Restarts(0, 0.0, "its process has ended", starting=True, progress="m 1, 4 of 20"),
    )
    services = status(tmp_path)
    assert services is not None
    supervisor, torchserve, worker = services.parts
    assert (supervisor.name, supervisor.state, supervisor.pids) == ("supervisor", State.UP, (os.getpid(),))
    assert torchserve.state is worker.state is State.RESTARTING
    assert torchserve.note.startswith("port 1 is in use; next try at ")
    assert "restarted 3 times, last at " in torchserve.note
    assert worker.note == "its process has ended; it is loading m 1, 4 of 20"
    assert [part.name for part in services.troubles] == ["torchserve", "worker"]


def test_a_worker_is_no_part_of_services_without_one(tmp_path: Path) -> None:
    write(ServingOptions(state=tmp_path, worker=False))
    watched(tmp_path)
    services = status(tmp_path)
    assert services is not None
    assert [(part.name, part.state) for part in services.parts] == [("supervisor", "up"), ("torchserve", "down")]


def test_options_are_read_back(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    options = ServingOptions(
        store=tmp_path / "store", models=("a", "b"), state=tmp_path, ports=Ports.free(), memory_mb=7, hung_after=2.5
    )
    write(options)
    assert read(tmp_path) == options
    known = state_folder.read(tmp_path, OPTIONS)
    assert known is not None
    state_folder.write(tmp_path, OPTIONS, known | {"of another version": 1})
    assert read(tmp_path) == options
    state_folder.write(tmp_path, OPTIONS, known | {"ports": {"rest": 0}})
    assert read(tmp_path) is None


def test_nobody_listens(tmp_path: Path) -> None:
    record = nobody(tmp_path)
    assert "tokens cannot be read" in health.torchserve(record, 1)
    (tmp_path / "key_file.json").write_text('{"inference": {"key": "x"}}')
    assert "no answer over REST" in health.torchserve(record, 1)
    assert "no answer" in health.model(record, "toy", "1", 1)
    assert health.worker(record["grpc"], 1) == "no answer: connection refused"


@pytest.mark.e2e
def test_processes_that_are_halted(store: Path, tmp_path: Path) -> None:
    options = ServingOptions(store=store, state=tmp_path / "state", ports=Ports.free(), response_timeout=4)

    def parts() -> dict[str, Part]:
        begun = time.monotonic()
        services = serving.status(options.state)
        assert services is not None
        assert time.monotonic() - begun < 15  # thrice the time-out, on a machine that has other work too
        return {part.name: part for part in services.parts}

    with serving.start(options) as running:
        assert {name: part.well for name, part in parts().items()} == {"torchserve": True, "toy 1": True}
        java, (model,) = psutil.Process(running.pid), running.worker_pids()
        java.suspend()
        services = parts()
        java.resume()
        assert services["torchserve"].state is State.SILENT
        psutil.Process(model).suspend()
        services = parts()
        assert services["torchserve"].well
        assert (services["toy 1"].state, services["toy 1"].note) == (State.SILENT, f"process {model} is halted")
        here: Serving = {**nobody(tmp_path), "rest": running.rest, "key_file": str(running.key_file)}
        # TorchServe itself replaces a process that owes an answer for too long.
        assert "timed out" in health.model(here, "toy", "1", 1)
        deadline = time.monotonic() + 60
        while running.worker_pids() in ((), (model,)) or not parts()["toy 1"].well:
            assert time.monotonic() < deadline
            time.sleep(0.2)
