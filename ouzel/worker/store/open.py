"""Opens the store that a URL names. Loads only the database driver that it needs."""

from __future__ import annotations

from pathlib import Path

from ouzel.databases.urls import is_postgres, sqlite_file
from ouzel.worker.store.counted import CountedDatabase, Failed
from ouzel.worker.store.database import Database
from ouzel.worker.store.protocol import Store
from ouzel.worker.store.retry_policy import Retries
from ouzel.worker.store.sql import SqlStore


def open_store(
    url: str | Path, *, retries: Retries | None = None, check: bool = True, failed: Failed | None = None
) -> Store:
    """Opens a job store; a new one is created.

    Args:
        url: The path of a SQLite file, or "sqlite:///PATH", or "postgresql://...".
        retries: How often failed jobs are tried again.
        check: Whether an existing SQLite file is checked for damage.
        failed: Called with the code of the error of each transaction that the database fails.

    Returns:
        The store. The caller closes it.

    Raises:
        InvalidArgument: It is another URL.
        DataLoss: The database is damaged, or of another version.
        Unavailable: The database does not answer.
    """
    database = _open(str(url), check)
    return SqlStore(database if failed is None else CountedDatabase(database, failed), retries)


def _open(text: str, check: bool) -> Database:
    if is_postgres(text):
        from ouzel.worker.store.postgres import PostgresJobs

        return PostgresJobs(text)
    from ouzel.worker.store.sqlite import SqliteJobs

    return SqliteJobs(sqlite_file(text, "store"), check=check)
