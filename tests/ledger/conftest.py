"""Logs in both databases: SQLite in a file, and a real PostgreSQL that comes in a wheel."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ouzel.ledger import Ledger
from support.ledgers import Place
from support.postgres import new_database


@pytest.fixture(params=["sqlite", "postgres"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    """Makes places for new logs."""

    def create() -> Place:
        name = f"ledger_{uuid.uuid4().hex}"
        folder = tmp_path / name
        if request.param == "sqlite":
            return Place(f"sqlite://{folder / 'ledger.db'}", folder)
        return Place(new_database(request.getfixturevalue("postgres")), folder)

    return create


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    return new_place()


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    opened = place.open()
    yield opened
    opened.close()


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    return Place(f"sqlite://{tmp_path / 'own' / 'ledger.db'}", tmp_path / "own")
