"""The sink's file: SQLite with transactions that are on the disk when they return.

All writes go through one thread, which commits whatever was asked for meanwhile in one transaction, so that the disk is
waited for once per group. This is the only module of the sink that knows the database's library.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw

from ouzel.errors import DataLoss, OuzelError, ResourceExhausted, Unavailable
from ouzel.sink import schema

T = TypeVar("T")
_GROUP = 256  # transactions per commit, at most
_BUSY = 10_000  # ms to wait for another process


class Connection:
    """One open transaction."""

    def __init__(self, raw: apsw.Connection) -> None:
        self._raw = raw

    def all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self._raw.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        """The first row of a query; None if it has no rows."""
        return next(iter(self.all(sql, *values)), None)

    def run(self, sql: str, *values: Any) -> int:
        """Runs a statement; returns how many rows it changed."""
        self._raw.execute(sql, values).fetchall()
        return self._raw.changes()


class Database:
    """The file.

    Args:
        path: It is made if it is missing.
        check: Whether an existing file is checked for damage.

    Raises:
        DataLoss: The file is damaged, is no SQLite database, or is of another version.
    """

    def __init__(self, path: Path, *, check: bool = True) -> None:
        self._path = path
        self._asked: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._idle: list[apsw.Connection] = []
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _translated():
            self._raw = _connect(path)
            try:
                _prepare(self._raw, path, check)
            except BaseException:
                self._raw.close()
                raise
        self._writer = threading.Thread(target=self._write_all, name="sink-writer", daemon=True)
        self._writer.start()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """Has `work` run in a transaction. The future is done once that is on the disk.

        `work` may be run again, so its only effects are those on the connection. An error of its own undoes what it
        did.

        Raises:
            Unavailable: The file is closed.
        """
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()  # nobody can cancel it: what was asked for is done
        with self._closing:
            if self._closed:
                raise Unavailable("the sink's database is closed")
            self._asked.put((work, done))
        return done

    def write(self, work: Callable[[Connection], T]) -> T:
        """As `submit`, and waits for the result."""
        return self.submit(work).result()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work`, which only reads, on one state of the file. It does not wait for writers."""
        with self._closing:
            if self._closed:
                raise Unavailable("the sink's database is closed")
            raw = self._idle.pop() if self._idle else None
        with _translated():
            raw = raw or _connect(self._path)
            raw.execute("BEGIN")
            try:
                return work(Connection(raw))
            finally:
                raw.execute("COMMIT")
                with self._closing:
                    keep = not self._closed
                    if keep:
                        self._idle.append(raw)
                if not keep:
                    raw.close()

    def close(self) -> None:
        """Writes what was asked for, and closes the file."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._asked.put(None)
        self._writer.join()
        for raw in [*self._idle, self._raw]:
            raw.close()

    def _write_all(self) -> None:
        while (first := self._asked.get()) is not None:
            group, last = [first], False
            with suppress(queue.Empty):
                while len(group) < _GROUP and not last:
                    more = self._asked.get_nowait()
                    if more is None:
                        last = True
                    else:
                        group.append(more)
            self._write_group(group)
            if last:
                return

    def _write_group(self, group: list[tuple[Callable[[Connection], Any], Future[Any]]]) -> None:
        try:
            outcomes = self._commit([work for work, _ in group])
        except Exception as error:  # noqa: BLE001 - it belongs to the caller
            if len(group) > 1:  # the fault may be with one of them: each alone
                for each in group:
                    self._write_group([each])
                return
            group[0][1].set_exception(_meaning(error))
            return
        for (_, done), (value, problem) in zip(group, outcomes, strict=True):
            if problem is not None:
                done.set_exception(problem)
            else:
                done.set_result(value)

    def _commit(self, group: list[Callable[[Connection], Any]]) -> list[tuple[Any, Exception | None]]:
        outcomes: list[tuple[Any, Exception | None]] = []
        self._raw.execute("BEGIN IMMEDIATE")
        try:
            for work in group:
                self._raw.execute("SAVEPOINT one")
                try:
                    outcomes.append((work(Connection(self._raw)), None))
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
        return outcomes


def _connect(path: Path) -> apsw.Connection:
    raw = apsw.Connection(str(path))
    raw.set_busy_timeout(_BUSY)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "fullfsync = ON", "foreign_keys = ON"):
        raw.execute(f"PRAGMA {pragma}").fetchall()
    return raw


def _prepare(raw: apsw.Connection, path: Path, check: bool) -> None:
    """Checks the file, and makes what is missing."""
    rows = raw.execute("PRAGMA quick_check(5)").fetchall() if check else [("ok",)]
    if rows != [("ok",)]:
        raise DataLoss(f"{path} is damaged: {'; '.join(str(row[0]) for row in rows):.400}")
    raw.execute("BEGIN IMMEDIATE")
    try:
        version = raw.execute("PRAGMA user_version").fetchall()[0][0]
        if version not in (0, schema.VERSION):
            raise DataLoss(f"{path} has version {version}; this ouzel reads {schema.VERSION}")
        for statement in schema.STATEMENTS:
            raw.execute(statement)
        raw.execute(f"PRAGMA user_version = {schema.VERSION}")
        raw.execute("COMMIT")
    except BaseException:
        if not raw.get_autocommit():
            raw.execute("ROLLBACK")
        raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise _meaning(error) from error


def _meaning(error: Exception) -> Exception:
    """SQLite's errors in the words of ours."""
    if isinstance(error, OuzelError) or not isinstance(error, apsw.Error):
        return error
    if isinstance(error, apsw.FullError):
        return ResourceExhausted(f"the disk of the sink is full ({error})")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return DataLoss(f"the sink's database is damaged ({error})")
    return Unavailable(f"the sink's database does not answer ({type(error).__name__}: {error})")
