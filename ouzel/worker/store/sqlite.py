"""SQLite: one machine, a file on its disk.

All writes go through one thread, which commits whatever has been asked for meanwhile in one transaction: the disk is
waited for once per group, and every caller still hears of success only after the commit. apsw brings a SQLite without
the WAL-reset bug that Python's own may have (3.7.0 to 3.51.2), which damages databases.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw

from ouzel.errors import DataLoss, OuzelError, ResourceExhausted, Unavailable
from ouzel.worker.store import schema
from ouzel.worker.store.database import Batch, Committed, Connection, Events, Wanted
from ouzel.worker.store.subscriptions import EventPoller

T = TypeVar("T")
_log = logging.getLogger(__name__)
_GROUP = 128  # transactions per commit at most, so that no caller waits for long
_LOOK = 0.005  # s between two looks for what other processes have written, while somebody listens
_IDLE_LOOK = 0.1
_BUSY = 10_000  # ms to wait for another process


class SqliteConnection(Events):
    """One open transaction of SQLite."""

    for_update = ""  # there is one writer

    def __init__(self, raw: apsw.Connection) -> None:
        super().__init__()
        self._raw = raw

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


class SqliteDatabase:
    """A SQLite file.

    Args:
        path: The file; it is made if it is missing.
        check: Whether an existing file is checked for damage.

    Raises:
        DataLoss: The file is damaged, or is no SQLite database.
    """

    def __init__(self, path: Path, *, check: bool = True) -> None:
        self._path = path
        self._listener: Committed = lambda _: None
        self._wanted: Wanted = dict
        self._poller: threading.Thread | None = None
        self._ended = threading.Event()
        self._idle: list[apsw.Connection] = []
        self._asked: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._closing = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _translated():
            self._raw = _connect(path)
            try:
                if check:
                    self._check(self._raw)
                _create(self._raw)
            except BaseException:
                self._raw.close()
                raise
        self._writer = threading.Thread(target=self._write_all, name="sqlite-writer", daemon=True)
        self._writer.start()

    def write(self, work: Callable[[Connection], T]) -> T:
        done: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise Unavailable("the store is closed")
            self._asked.put((work, done))
        return done.result()

    def read(self, work: Callable[[Connection], T]) -> T:
        with _translated(), self._reader() as raw:
            raw.execute("BEGIN")
            try:
                return work(SqliteConnection(raw))
            finally:
                raw.execute("COMMIT")

    def on_commit(self, listener: Committed, wanted: Wanted) -> None:
        self._listener, self._wanted = listener, wanted
        if self._poller is None:
            self._poller = threading.Thread(target=self._poll, name="sqlite-events", daemon=True)
            self._poller.start()

    def check(self) -> None:
        with _translated(), self._reader() as raw:
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
        self._ended.set()
        if self._poller is not None:
            self._poller.join()
        for raw in [*self._idle, self._raw]:
            raw.close()

    def _poll(self) -> None:
        """Other processes write too, and SQLite does not notify; `data_version` tells it without reading a page."""
        poller = EventPoller(self, self._listener, self._wanted)
        raw: apsw.Connection | None = None
        seen = None
        while not self._ended.wait(_LOOK if self._wanted() else _IDLE_LOOK):
            if not self._wanted():
                continue
            try:
                raw = raw or _connect(self._path)  # the same each time: the number means nothing on another
                if (version := raw.pragma("data_version")) != seen:
                    poller.changed()
                    seen = version
                poller.catch_up()
            except Exception as error:  # noqa: BLE001 - listeners also read now and then, as `listen` says
                if not self._closed:
                    _log.warning("new events cannot be read: %s", error)
                    self._ended.wait(1.0)
        if raw is not None:
            raw.close()

    @contextmanager
    def _reader(self) -> Iterator[apsw.Connection]:
        """Lent to one thread at a time; with the write-ahead log it does not wait for the writer."""
        with self._closing:
            if self._closed:
                raise Unavailable("the store is closed")
            raw = self._idle.pop() if self._idle else None
        if raw is None:
            raw = _connect(self._path)
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
            outcomes, batches = self._commit([work for work, _ in group])
        except Exception as error:  # noqa: BLE001 - it belongs to the caller
            if len(group) > 1:  # the fault may be with one of them: each alone
                for each in group:
                    self._write_group([each])
                return
            group[0][1].set_exception(_meaning(error))
            return
        if batches:
            self._listener(batches)
        for (_, done), (value, problem) in zip(group, outcomes, strict=True):
            if problem is not None:
                done.set_exception(problem)
            else:
                done.set_result(value)

    def _commit(
        self, group: list[Callable[[Connection], Any]]
    ) -> tuple[list[tuple[Any, Exception | None]], list[Batch]]:
        """The outcome of each, all in one transaction; an error of the database itself undoes all and is raised."""
        outcomes: list[tuple[Any, Exception | None]] = []
        batches: list[Batch] = []
        self._raw.execute("BEGIN IMMEDIATE")
        try:
            for work in group:
                connection = SqliteConnection(self._raw)
                self._raw.execute("SAVEPOINT one")
                try:
                    outcomes.append((work(connection), None))
                    batches += connection.batches
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
        return outcomes, batches


def _connect(path: Path) -> apsw.Connection:
    raw = apsw.Connection(str(path))
    raw.set_busy_timeout(_BUSY)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "fullfsync = ON"):
        raw.execute(f"PRAGMA {pragma}").fetchall()
    return raw


def _create(raw: apsw.Connection) -> None:
    # IMMEDIATE: of two processes that create the same file, one waits for the other.
    raw.execute("BEGIN IMMEDIATE")
    try:
        version = raw.execute("PRAGMA user_version").fetchall()[0][0]
        if version not in (0, schema.VERSION):
            raise DataLoss(f"the database has version {version}; this ouzel reads {schema.VERSION}")
        for statement in schema.statements(schema.SQLITE):
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
        return ResourceExhausted(f"the disk of the job store is full ({error})")
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return DataLoss(f"the job store is damaged ({error})")
    return Unavailable(f"the job store does not answer ({type(error).__name__}: {error})")
