"""PostgreSQL: many machines share one store.

NOTIFY tells all workers which job has new events. A worker reads the events if one of its callers listens to that
job.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors

from ouzel.errors import DataLoss, InvalidArgument, ResourceExhausted, Unavailable
from ouzel.worker.store import schema
from ouzel.worker.store.database import Committed, Connection, Events, Wanted
from ouzel.worker.store.postgres_pool import PostgresPool
from ouzel.worker.store.subscriptions import EventPoller

T = TypeVar("T")
_log = logging.getLogger(__name__)
_CHANNEL = "ouzel_events"
_TRIES = 5
_LOOK = 0.05  # s between two looks for new listeners
_CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)


class PostgresConnection(Events):
    """One open transaction of PostgreSQL."""

    for_update = " FOR UPDATE"

    def __init__(self, raw: psycopg.Connection) -> None:
        super().__init__()
        self._raw = raw
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

    def notify(self) -> None:
        """Tells other processes which jobs have new events."""
        for job in {job for job, _ in self.batches}:
            self.one("SELECT pg_notify(?, ?)", _CHANNEL, job)

    def _execute(self, sql: str, values: tuple[Any, ...]) -> psycopg.Cursor:
        return self._raw.execute(sql.replace("?", "%s"), values)


class PostgresDatabase:
    """PostgreSQL.

    Args:
        url: "postgresql://...".

    Raises:
        Unavailable: The server does not answer.
    """

    def __init__(self, url: str) -> None:
        self._pool = PostgresPool(url)
        self._closed = threading.Event()
        self._listening = threading.Event()
        self._listener: Committed = lambda _: None
        self._wanted: Wanted = dict
        self._poller: threading.Thread | None = None
        try:
            self.write(_create)
        except BaseException:
            self.close()
            raise

    def write(self, work: Callable[[Connection], T]) -> T:
        def written(c: PostgresConnection) -> T:
            value = work(c)
            c.notify()
            return value

        return self._run(written)

    def read(self, work: Callable[[Connection], T]) -> T:
        def read(c: PostgresConnection) -> T:
            c.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return work(c)

        return self._run(read)

    def on_commit(self, listener: Committed, wanted: Wanted) -> None:
        self._listener, self._wanted = listener, wanted
        if self._poller is None:
            self._poller = threading.Thread(target=self._poll, name="postgres-events", daemon=True)
            self._poller.start()
            self._listening.wait(10.0)

    def check(self) -> None:
        self.read(lambda c: c.one("SELECT 1"))

    def close(self) -> None:
        self._closed.set()
        if self._poller is not None:
            self._poller.join()
        self._pool.close()

    def _run(self, work: Callable[[PostgresConnection], T]) -> T:
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                with _translated(), self._pool.lend() as raw:
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
                    raise Unavailable("the store is closed") from None
                raise
        raise AssertionError

    def _poll(self) -> None:
        while not self._closed.is_set():
            try:
                with self._pool.connect() as raw:
                    raw.execute(f"LISTEN {_CHANNEL}")
                    self._listening.set()
                    poller = EventPoller(self, self._listener, self._wanted)  # new: it reads what was missed meanwhile
                    while not self._closed.is_set():
                        poller.catch_up()
                        for note in raw.notifies(timeout=_LOOK, stop_after=1):
                            poller.changed(note.payload)
            except Exception as error:  # noqa: BLE001 - listeners also read now and then, as `listen` says
                if self._closed.is_set():
                    return
                _log.warning("new events cannot be read: %s", error)
                self._closed.wait(1.0)


def _create(c: Connection) -> None:
    c.lock("schema")
    for statement in schema.statements(schema.POSTGRES):
        c.run(statement)
    row = c.one("SELECT value FROM meta WHERE name = 'version'")
    if row is None:
        c.run("INSERT INTO meta (name, value) VALUES ('version', ?)", str(schema.VERSION).encode())
    elif bytes(row[0]) != str(schema.VERSION).encode():
        raise DataLoss(f"the database has version {bytes(row[0])!r}; this ouzel reads {schema.VERSION}")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (errors.DiskFull, errors.OutOfMemory) as error:
        raise ResourceExhausted(f"the job store has no room ({error})") from error
    except (errors.DataCorrupted, errors.IndexCorrupted) as error:
        raise DataLoss(f"the job store is damaged ({error})") from error
    except psycopg.DataError as error:  # a NUL in a text, a number that is too large: SQLite takes them
        raise InvalidArgument(f"the job store cannot hold this ({error})") from error
    except psycopg.Error as error:
        raise Unavailable(f"the job store does not answer ({type(error).__name__}: {error})") from error
