from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.postgres import server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with server(durable=False) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The database of API keys."""
    if request.param == "sqlite":
        return str(tmp_path / "keys.db")
    running: str = request.getfixturevalue("postgres")
    name = f"keys_{uuid.uuid4().hex}"
    with psycopg.connect(running, autocommit=True) as raw:
        raw.execute(f'CREATE DATABASE "{name}"')
    return running.replace("/postgres?", f"/{name}?")
