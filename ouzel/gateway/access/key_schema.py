"""The table of API keys, and where it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ouzel.databases.database import Database
from ouzel.databases.schema import Schema
from ouzel.databases.urls import is_postgres, sqlite_file

FILE = "keys.db"  # in the state folder

# changed: the number of the change that wrote the row last. Who has seen all up to one number reads what is above it.
KEYS = Schema(
    words="the database of API keys",
    version=1,
    tables="""
        CREATE TABLE IF NOT EXISTS access_meta (name TEXT PRIMARY KEY, value {blob} NOT NULL) {rowid};
        CREATE TABLE IF NOT EXISTS access_changes (one INTEGER PRIMARY KEY, number BIGINT NOT NULL);
        CREATE TABLE IF NOT EXISTS access_keys (id TEXT PRIMARY KEY, digest {blob} NOT NULL, tenant TEXT NOT NULL,
            name TEXT NOT NULL, roles TEXT NOT NULL, models TEXT NOT NULL, created {float} NOT NULL,
            expires {float} NOT NULL, revoked {float}, replaced_by TEXT, last_used {float},
            changed BIGINT NOT NULL) {rowid};
        CREATE INDEX IF NOT EXISTS access_keys_changed ON access_keys (changed);
        INSERT INTO access_changes (one, number) SELECT 1, 0 WHERE NOT EXISTS (SELECT 1 FROM access_changes)
    """,
    meta="access_meta",
    application=0x4F555A4B,  # "OUZK"
)


def open_keys(url: str | Path) -> Database:
    """Opens the database of keys; a new one is created.

    Args:
        url: The path of a SQLite file, which only its owner may read, "sqlite:///PATH", or "postgresql://...".

    Raises:
        InvalidArgument: It is another URL.
        DataLoss: It is damaged, or no database of keys.
        Unavailable: It does not answer.
    """
    if is_postgres(url):
        from ouzel.databases.postgres import PostgresDatabase

        return PostgresDatabase(str(url), KEYS)
    from ouzel.databases.sqlite import SqliteDatabase

    path = sqlite_file(url, "keys")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # SQLite gives the files beside it the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
    return SqliteDatabase(path, KEYS)
