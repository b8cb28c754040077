from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import trustme

from ouzel.gateway.access.api_keys import ApiKeys, Scope
from ouzel.gateway.access.configured import AccessOptions, ConfiguredAccess, opened
from ouzel.gateway.access.key_schema import open_keys
from support.postgres import new_database


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The database of API keys."""
    if request.param == "sqlite":
        return str(tmp_path / "keys.db")
    return new_database(request.getfixturevalue("postgres"))


class Site:
    """A door that is configured by files in a folder, as an operator does it."""

    def __init__(self, folder: Path) -> None:
        self.file, self.database = folder / "tenants.toml", folder / "keys.db"
        self.write()

    def write(self, acme: str = "", more: str = "") -> None:
        self.file.write_text(f"[tenants.acme]\n{acme}\n[tenants.other]\n{more}\n")

    def key(self, tenant: str = "acme", *roles: str, models: tuple[str, ...] = ("*",)) -> str:
        database = open_keys(self.database)
        try:
            return ApiKeys(database).create(Scope(tenant, "robot", frozenset(roles or {"explain"}), models))[0]
        finally:
            database.close()

    def open(self, also: Sequence[Callable[[], None]] = ()) -> AbstractContextManager[ConfiguredAccess]:
        return opened(AccessOptions(self.file, self.database), also)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA()
