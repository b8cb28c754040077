"""PostgreSQL: many machines share one database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors

from ouzel.databases.database import Connection
from ouzel.databases.postgres_pool import PostgresPool
from ouzel.databases.schema import Schema
from ouzel.errors import DataLoss, InvalidArgument, ResourceExhausted, Unavailable

T = TypeVar("T")
# Gets a transaction that is about to be committed, and what it has noted.
Committing = Callable[[Connection, Sequence[Any]], None]
_TRIES = 5
_CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)


class PostgresConnection:
    """One open transaction of PostgreSQL."""

    for_update = " FOR UPDATE"

    def __init__(self, raw: psycopg.Connection) -> None:
        self._raw = raw
        self.notes: list[Any] = []
        self._now: float | None = None

    def all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        return self._execute(sql, values).fetchone()

    def run(self, sql: str, *values: Any) -> int:
        return self._execute(sql, values).rowcount

    def now(self) -> float:
        """Of the database's clock, when the transaction began."""
        if self._now is None:
            row = self.one("SELECT CAST(EXTRACT(EPOCH FROM now()) AS DOUBLE PRECISION)")
            assert row is not None
            self._now = float(row[0])
        return self._now

    def lock(self, name: str) -> None:
        self.one("SELECT pg_advisory_xact_lock(hashtext(?))", f"ouzel {name}")

    def note(self, what: Any) -> None:
        self.notes.append(what)

    def _execute(self, sql: str, values: tuple[Any, ...]) -> psycopg.Cursor:
        return self._raw.execute(sql.replace("?", "%s"), values)


class PostgresDatabase:
    """PostgreSQL.

    Args:
        url: "postgresql://...".
        schema: Its tables.
        committing: Is called at the end of each transaction that has noted something.

    Raises:
        DataLoss: The tables are of another version.
        Unavailable: The server does not answer.
    """

    def __init__(self, url: str, schema: Schema, *, committing: Committing = lambda _c, _notes: None) -> None:
        self._words = schema.words
        self._committing = committing
        self._pool = PostgresPool(url, schema.words)
        self._closed = threading.Event()
        try:
            self.write(lambda c: _create(c, schema))
        except BaseException:
            self.close()
            raise

    def write(self, work: Callable[[Connection], T]) -> T:
        def written(c: PostgresConnection) -> T:
            value = work(c)
            if c.notes:
                self._committing(c, c.notes)
            return value

        return self._run(written)

    def read(self, work: Callable[[Connection], T]) -> T:
        def read(c: PostgresConnection) -> T:
            c.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return work(c)

        return self._run(read)

    def check(self) -> None:
        self.read(lambda c: c.one("SELECT 1"))

    def connect(self) -> psycopg.Connection:
        """A connection beside those that transactions use. The caller closes it."""
        return self._pool.connect()

    def close(self) -> None:
        self._closed.set()
        self._pool.close()

    def _run(self, work: Callable[[PostgresConnection], T]) -> T:
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                with self._translated(), self._pool.lend() as raw:
                    committing = False
                    try:
                        with raw.transaction():
                            value = work(PostgresConnection(raw))
                            committing = True
                        return value
                    except _CONFLICTS:
                        if last:
                            raise
                    except psycopg.OperationalError:
                        # A connection that was lost before the commit has done nothing: another one may.
                        if committing or not raw.closed or last:
                            raise
            except Unavailable:
                if self._closed.is_set():
                    raise Unavailable(f"{self._words} is closed") from None
                raise
        raise AssertionError

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (errors.DiskFull, errors.OutOfMemory) as error:
            raise ResourceExhausted(f"{self._words} has no room ({error})") from error
        except (errors.DataCorrupted, errors.IndexCorrupted) as error:
            raise DataLoss(f"{self._words} is damaged ({error})") from error
        except psycopg.DataError as error:  # a NUL in a text, a number that is too large: SQLite takes them
            raise InvalidArgument(f"{self._words} cannot hold this ({error})") from error
        except psycopg.Error as error:
            raise Unavailable(f"{self._words} does not answer ({type(error).__name__}: {error})") from error


def _create(c: Connection, schema: Schema) -> None:
    c.lock("schema")
    for statement in schema.postgres():
        c.run(statement)
    row = c.one(f"SELECT value FROM {schema.meta} WHERE name = 'version'")
    if row is None:
        c.run(f"INSERT INTO {schema.meta} (name, value) VALUES ('version', ?)", str(schema.version).encode())
    elif bytes(row[0]) != str(schema.version).encode():
        raise DataLoss(f"the database has version {bytes(row[0])!r}; this ouzel reads {schema.version}")
