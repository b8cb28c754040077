"""One gateway with the engine in this process for all tests that do no harm to it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from ouzel import models
from ouzel.gateway.engines.in_process import InProcessEngine
from ouzel.gateway.server import Addresses
from ouzel.gateway.worker.place import WorkerOptions, local
from ouzel_protos.local import read_worker
from support import detectors, segmenters
from support.gateway import gateway, write_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("gateway-store"))


@pytest.fixture(scope="session")
def model(store: Path) -> models.Model:
    return models.load(store / "toy.mar")


@pytest.fixture(scope="session")
def addresses(store: Path) -> Iterator[Addresses]:
    with gateway(lambda: InProcessEngine(store)) as addresses:
        yield addresses


@pytest.fixture(scope="session")
def tasks_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `store`, and a detector and a segmentation model."""
    folder = write_store(tmp_path_factory.mktemp("tasks-store"))
    detectors.archived(folder)
    segmenters.archived(folder)
    return folder


@pytest.fixture(scope="session")
def tasks(tasks_store: Path) -> Iterator[Addresses]:
    """A gateway in front of them."""
    with gateway(lambda: InProcessEngine(tasks_store)) as addresses:
        yield addresses


@pytest.fixture
def channel(addresses: Addresses) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(addresses.grpc) as channel:
        yield channel


@pytest.fixture(scope="session")
def worker(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerOptions]:
    """A real worker that knows two tenants."""
    state = tmp_path_factory.mktemp("worker")
    tokens = state / "tokens"
    tokens.write_text("ann token-of-ann-0123456789\nbob token-of-bob-0123456789\n")
    command = [
        sys.executable, "-m", "ouzel.cli.worker", "--state", str(state), "--store", str(store), "--port", "0",
        "--tokens", str(tokens), "--no-ledger",
    ]  # fmt: skip
    with (state / "out").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 60
        while read_worker(state) is None:
            assert process.poll() is None, (state / "out").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield WorkerOptions(local(state), tokens)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
