"""Both stores: SQLite in a file, and a real PostgreSQL that comes in a wheel."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ouzel import models
from ouzel.forking.client import ForkServer
from ouzel.models import archive
from ouzel.models.preprocessing import Preprocessing
from ouzel.worker import kinds
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import Store
from support.jobs import until
from support.postgres import new_database
from support.ray_cluster import Cluster, cluster, new_token, variables


def urls(kind: str, folder: Path, request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes URLs of new, empty stores."""
    if kind == "sqlite":
        return lambda: f"sqlite://{folder / uuid.uuid4().hex / 'jobs.db'}"
    running: str = request.getfixturevalue("postgres")
    return lambda: new_database(running)


@pytest.fixture(scope="session")
def ray_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One for all clusters: Ray's library keeps the first that a process has read."""
    token = new_token(tmp_path_factory.mktemp("token"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables(token).items():
            patch.setenv(name, value)
        yield token


@pytest.fixture(scope="module")
def ray_cluster(ray_token: Path) -> Iterator[Cluster]:
    """Of one node, which tests leave as it is."""
    with cluster(ray_token) as running:
        yield running


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a new, empty store in PostgreSQL."""
    return urls("postgres", tmp_path, request)()


@pytest.fixture(params=["sqlite", "postgres"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    return urls(request.param, tmp_path, request)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a store that the tests of a module share."""
    return urls(request.param, tmp_path_factory.mktemp("shared"), request)()


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """Has jobs of the real kinds forked, which then begin at once."""
    with closing(ForkServer(kinds.libraries())) as server:
        until(server.warm, 120)
        yield server


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one small random model."""
    store = tmp_path_factory.mktemp("base")
    arch, labels = "timm:test_resnet", ["a", "b", "c", "d"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(models.build(arch, num_classes=4).state_dict(), store / "w.safetensors")
    preprocessing = Preprocessing(input_size=(32, 32), resize=36)
    archive.create("base", arch, store / "w.safetensors", labels, store, preprocessing=preprocessing)
    return store / "base.mar"
