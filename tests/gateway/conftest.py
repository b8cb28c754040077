"""One gateway with the engine in this process for all tests that do no harm to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from ouzel import models
from ouzel.gateway.engines.in_process import InProcessEngine
from ouzel.gateway.server import Addresses
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


@pytest.fixture
def channel(addresses: Addresses) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(addresses.grpc) as channel:
        yield channel
