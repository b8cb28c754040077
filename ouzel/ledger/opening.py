"""Opening a log: its database, its key, and what it has published."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from ouzel.checks import within
from ouzel.databases.database import Database
from ouzel.databases.urls import is_postgres, sqlite_file
from ouzel.errors import FailedPrecondition
from ouzel.ledger import records
from ouzel.ledger.keys import create_key, read_key
from ouzel.ledger.ledger import PATIENCE, Ledger
from ouzel.ledger.published.places import open_storage
from ouzel.ledger.publisher import Publisher
from ouzel.ledger.schema import LEDGER
from ouzel.ledger.tlog.note import VerifierKey


@dataclass(frozen=True)
class LedgerOptions:
    """Where a log lies.

    Attributes:
        database: The path of a SQLite file, or "sqlite:///PATH", or "postgresql://...". It is made when it is new.
        tiles: Where it is published: a folder, or "s3://BUCKET/PREFIX".
        key: File of the private key. It is made with a new log.
        origin: The log's name, for ever, such as "ouzel.example/worker-1".
        publish_every: Seconds between two looks whether something is to be published; 0: only proofs, opening and
            closing publish.
    """

    database: str | Path = field(repr=False)  # a URL may hold a password
    tiles: str | Path
    key: Path
    origin: str
    publish_every: float = 1.0

    def __post_init__(self) -> None:
        within("publish_every", self.publish_every, 0.0, 3600.0, unit="s")


def open_database(url: str | Path, *, check: bool = True) -> Database:
    """Opens the database of a log; a new one is created. `check`: whether an existing file is checked for damage."""
    text = str(url)
    if is_postgres(text):
        from ouzel.databases.postgres import PostgresDatabase

        return PostgresDatabase(text, LEDGER)
    from ouzel.databases.sqlite import SqliteDatabase

    return SqliteDatabase(sqlite_file(text), LEDGER, check=check)


def identity(database: Database) -> VerifierKey | None:
    """The key of the log that a database holds; None of a new one."""
    known = database.read(lambda c: records.meta(c, "identity"))
    return None if known is None else VerifierKey.parse(known.decode())


def open_ledger(options: LedgerOptions, *, publish: bool = True, check: bool = True) -> Ledger:
    """Opens a log; a new one is created, with its key.

    Args:
        options: Where it lies.
        publish: Whether what is published is checked and brought up to date now, every `publish_every` seconds, and
            when the log is closed; else proofs and `publish` alone do so.
        check: Whether an existing SQLite file is checked for damage, which takes longer the larger it is.

    Returns:
        The log. The caller closes it.

    Raises:
        DataLoss: The database is damaged, or is not the continuation of what is published.
        FailedPrecondition: The key is missing, is read by others, or is not that of the database.
        Unavailable: The database or the storage does not answer.
    """
    database = open_database(options.database, check=check)
    try:
        if not options.key.exists():
            known = identity(database)
            if known is not None:
                raise FailedPrecondition(
                    f"key: {options.key} is missing, the private key of {known}; those who write to one log share its "
                    "folder (OUZEL_LEDGER)",
                    field="key",
                )
            create_key(options.key)
        signer = read_key(options.key, options.origin)
        database.write(lambda c: records.claim(c, str(signer.verifier)))
        storage = open_storage(options.tiles)
        publisher = Publisher(database, storage, signer)
        if publish:
            publisher.publish(time.monotonic() + PATIENCE)
    except BaseException:
        database.close()
        raise
    return Ledger(database, storage, publisher, signer.verifier, options.publish_every if publish else None)
