"""Where `ouzel ledger` finds a log. It never makes a new one."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel.databases.urls import is_postgres, sqlite_file
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
    known: bool = False  # whether the folder of the log says so

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

        if not self._is_server() and not sqlite_file(self.database).exists():
            yield None
            return
        database = open_database(self.database)
        try:
            yield database
        finally:
            database.close()

    def _is_server(self) -> bool:
        return is_postgres(self.database)

    def _shown(self) -> str:
        return "that PostgreSQL database" if self._is_server() else str(sqlite_file(self.database))


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


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where the log is; the command gets a `Place`."""

    @functools.wraps(command)  # with its own options, which click keeps on the function
    def placed(
        state: Path | None,
        ledger: Path | None,
        database: str | None,
        tiles: str | None,
        key_file: Path | None,
        **rest: Any,
    ) -> Any:
        from ouzel.ledger.settings import existing
        from ouzel.ledger_folder import folder_of
        from ouzel.ledger_folder import known as is_known

        folder = ledger.expanduser().absolute() if ledger else folder_of(state)
        known = existing(folder)
        own = database is None and tiles is None and is_known(folder)
        chosen = Place(database or str(known.database), tiles or str(known.tiles), key_file or known.key, own)
        return command(place=chosen, **rest)

    file, folder = click.Path(dir_okay=False, path_type=Path), click.Path(file_okay=False, path_type=Path)
    for each in (
        click.option("--key-file", type=file, help="File of the private key. [default: as the folder says]"),
        click.option("--tiles", help="Published files: a folder, s3://BUCKET/PREFIX, or https://..."),
        click.option("--database", help="postgresql://... or the path of a SQLite file."),
        click.option(
            "--ledger",
            type=folder,
            envvar="OUZEL_LEDGER",
            show_envvar=True,
            help="Folder of the log. [default: STATE/ledger]",
        ),
        click.option(
            "--state",
            type=folder,
            envvar="OUZEL_STATE",
            show_envvar=True,
            help="State folder of the services. [default: ~/.local/state/ouzel on Linux]",
        ),
    ):
        placed = each(placed)
    return placed


@contextmanager
def opened(place: Place, *, publish: bool = False) -> Iterator[Ledger]:
    """The log of a place, closed at the end."""
    ledger = place.open(publish=publish)
    try:
        yield ledger
    finally:
        ledger.close()
