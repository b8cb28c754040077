"""Where `ouzel ledger` finds a log. It never makes a new one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ouzel.errors import FailedPrecondition, NotFound

if TYPE_CHECKING:
    from ouzel.databases.database import Database
    from ouzel.ledger import Ledger, Record, Storage, VerifierKey


@dataclass(frozen=True)
class Place:
    """A log's database, published files, and key."""

    database: str
    tiles: str
    key_file: Path

    def open(self, *, publish: bool) -> Ledger:
        from ouzel.ledger import LedgerOptions, open_ledger

        with self.database_or_none() as database:
            key = None if database is None else _identity(database)
        if key is None:
            raise NotFound(f"there is no ledger in {self._shown()}")
        options = LedgerOptions(self.database, self.tiles, self.key_file, key.name, publish_every=0.0)
        return open_ledger(options, publish=publish)

    @contextmanager
    def database_or_none(self) -> Iterator[Database | None]:
        """The database, if there is one."""
        from ouzel.ledger import open_database

        if not self._is_server() and not Path(self.database.removeprefix("sqlite://")).exists():
            yield None
            return
        database = open_database(self.database)
        try:
            yield database
        finally:
            database.close()

    def _is_server(self) -> bool:
        return self.database.startswith(("postgresql://", "postgres://"))

    def _shown(self) -> str:
        return "that PostgreSQL database" if self._is_server() else self.database.removeprefix("sqlite://")


def verified_key(
    given: str | None, place: Place, database: Database | None, storage: Storage
) -> tuple[VerifierKey, bool, str]:
    """The key to verify with, whether the database is of the same log, and what to tell about it."""
    from ouzel.ledger import VerifierKey

    own = None if database is None else _identity(database)
    if given is not None:
        key = VerifierKey.parse(given)
        return key, own == key, ""
    if own is not None:
        return own, True, ""
    content = storage.read("vkey")
    if content is None:
        raise FailedPrecondition(f"key: {place.tiles} has none beside it; give --key", field="key")
    note = "The key was taken from the files themselves: whoever forged them could have forged it. Give --key."
    return VerifierKey.parse(content.decode(errors="replace")), False, note


def as_values(record: Record) -> dict[str, Any]:
    """An entry for programs, without its salt."""
    entry = json.loads(record.body) if record.body is not None else {"kind": record.kind, "time": record.time}
    return {"index": record.index, "leaf": record.leaf.hex(), "pruned": record.body is None, **entry}


def _identity(database: Database) -> VerifierKey | None:
    from ouzel.ledger.opening import identity

    return identity(database)
