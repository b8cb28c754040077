"""SQLite: one machine, a file on its disk.

All writes go through one thread, which commits whatever has been asked for meanwhile in one transaction: the disk is
waited for once per group, and every caller still hears of success only after the commit. apsw brings a SQLite without
the WAL-reset bug that Python's own may have (3.7.0 to 3.51.2), which damages databases.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw

from ouzel.databases.database import Connection, Noted
from ouzel.databases.schema import Schema
from ouzel.errors import DataLoss, OuzelError, ResourceExhausted, Unavailable

T = TypeVar("T")
_GROUP = 128  # transactions per commit at most, so that no caller waits for long
_BUSY = 10_000  # ms to wait for another process


class SqliteConnection:
    """One open transaction of SQLite."""

    for_update = ""  # there is one writer

    def __init__(self, raw: apsw.Connection) -> None:
        self._raw = raw
        self.notes: list[Any] = []

    def all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._raw.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        return next(iter(self.all(sql, *values)), None)

    def run(self, sql: str, *values: Any) -> int:
        self._raw.execute(sql, values).fetchall()
        return self._raw.changes()

    def now(self) -> float:
        return time.time()

    def lock(self, name: str) -> None: ...

    def note(self, what: Any) -> None:
        self.notes.append(what)


class SqliteDatabase:
    """A SQLite file.

    Args:
        path: The file; it is made if it is missing.
        schema: Its tables.
        check: Whether an existing file is checked for damage.
        noted: Hears after each commit what its transactions have noted, in the order of the commits. It never raises.

    Raises:
        DataLoss: The file is damaged, or is no SQLite database of this schema.
    """

    def __init__(self, path: Path, schema: Schema, *, check: bool = True, noted: Noted = lambda _: None) -> None:
        self._path = path
        self._words = schema.words
        self._noted = noted
        self._idle: list[apsw.Connection] = []
        self._asked: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._closing = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._translated():
            self._raw = connect(path)
            try:
                if schema.erases:
                    self._raw.execute("PRAGMA secure_delete = ON").fetchall()
                if check:
                    self._check(self._raw)
                _create(self._raw, schema)
            except BaseException:
                self._raw.close()
                raise
        self._writer = threading.Thread(target=self._write_all, name="sqlite-writer", daemon=True)
        self._writer.start()

    def write(self, work: Callable[[Connection], T]) -> T:
        return self.submit(work).result()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """As `write`, without waiting: the future is done once the transaction is on the disk.

        Raises:
            Unavailable: The file is closed.
        """
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()  # nobody can cancel it: what was asked for is done
        with self._closing:
            if self._closed:
                raise Unavailable(f"{self._words} is closed")
            self._asked.put((work, done))
        return done

    def read(self, work: Callable[[Connection], T]) -> T:
        with self._translated(), self._reader() as raw:
            raw.execute("BEGIN")
            try:
                return work(SqliteConnection(raw))
            finally:
                raw.execute("COMMIT")

    def check(self) -> None:
        with self._translated(), self._reader() as raw:
            self._check(raw)

    def _check(self, raw: apsw.Connection) -> None:
        rows = raw.execute("PRAGMA quick_check(5)").fetchall()
        if rows != [("ok",)]:
            raise DataLoss(f"{self._path} is damaged: {'; '.join(str(row[0]) for row in rows)}")

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._asked.put(None)
        self._writer.join()
        for raw in [*self._idle, self._raw]:
            raw.close()

    @contextmanager
    def _reader(self) -> Iterator[apsw.Connection]:
        """Lent to one thread at a time; with the write-ahead log it does not wait for the writer."""
        with self._closing:
            if self._closed:
                raise Unavailable(f"{self._words} is closed")
            raw = self._idle.pop() if self._idle else None
        if raw is None:
            raw = connect(self._path)
        try:
            yield raw
        finally:
            with self._closing:
                keep = not self._closed
                if keep:
                    self._idle.append(raw)
            if not keep:
                raw.close()

    def _write_all(self) -> None:
        while (first := self._asked.get()) is not None:
            group = [first]
            last = False
            with suppress(queue.Empty):
                while len(group) < _GROUP and not last:
                    if (more := self._asked.get_nowait()) is None:
                        last = True
                    else:
                        group.append(more)
            self._write_group(group)
            if last:
                return

    def _write_group(self, group: list[tuple[Callable[[Connection], Any], Future[Any]]]) -> None:
        try:
            outcomes, notes = self._commit([work for work, _ in group])
        except Exception as error:  # noqa: BLE001 - it belongs to the caller
            # The fault may be with one of them: each alone. If another process holds the file, each would wait for it.
            if len(group) > 1 and not isinstance(error, apsw.BusyError):
                for each in group:
                    self._write_group([each])
                return
            for _, done in group:
                done.set_exception(self._meaning(error))
            return
        if notes:
            self._noted(notes)
        for (_, done), (value, problem) in zip(group, outcomes, strict=True):
            if problem is not None:
                done.set_exception(problem)
            else:
                done.set_result(value)

    def _commit(self, group: list[Callable[[Connection], Any]]) -> tuple[list[tuple[Any, Exception | None]], list[Any]]:
        """The outcome of each, all in one transaction; an error of the database itself undoes all and is raised."""
        outcomes: list[tuple[Any, Exception | None]] = []
        notes: list[Any] = []
        self._raw.execute("BEGIN IMMEDIATE")
        try:
            for work in group:
                connection = SqliteConnection(self._raw)
                self._raw.execute("SAVEPOINT one")
                try:
                    outcomes.append((work(connection), None))
                    notes += connection.notes
                except apsw.Error:
                    raise
                except Exception as error:  # noqa: BLE001 - its own: undo what it did, go on with the others
                    self._raw.execute("ROLLBACK TO one")
                    outcomes.append((None, error))
                self._raw.execute("RELEASE one")
            self._raw.execute("COMMIT")
        except BaseException:
            if not self._raw.get_autocommit():
                self._raw.execute("ROLLBACK")
            raise
        return outcomes, notes

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> Exception:
        """SQLite's errors in the words of ours."""
        if isinstance(error, OuzelError) or not isinstance(error, apsw.Error):
            return error
        if isinstance(error, apsw.FullError):
            return ResourceExhausted(f"the disk of {self._words} is full ({error})")
        if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
            return DataLoss(f"{self._words} is damaged ({error})")
        return Unavailable(f"{self._words} does not answer ({type(error).__name__}: {error})")


def connect(path: Path) -> apsw.Connection:
    """A connection to the file. The caller closes it."""
    raw = apsw.Connection(str(path))
    raw.set_busy_timeout(_BUSY)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "fullfsync = ON"):
        raw.execute(f"PRAGMA {pragma}").fetchall()
    return raw


def _create(raw: apsw.Connection, schema: Schema) -> None:
    # IMMEDIATE: of two processes that create the same file, one waits for the other.
    raw.execute("BEGIN IMMEDIATE")
    try:
        version, application = (
            raw.execute(f"PRAGMA {name}").fetchall()[0][0] for name in ("user_version", "application_id")
        )
        if version != 0 and application != schema.application:
            raise DataLoss(f"the database is not {schema.words}: its application_id is {application}")
        if version not in (0, schema.version):
            raise DataLoss(f"the database has version {version}; this ouzel reads {schema.version}")
        for statement in schema.sqlite():
            raw.execute(statement)
        raw.execute(f"PRAGMA user_version = {schema.version}")
        raw.execute(f"PRAGMA application_id = {schema.application}")
        raw.execute("COMMIT")
    except BaseException:
        if not raw.get_autocommit():
            raw.execute("ROLLBACK")
        raise
