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
from ouzel.worker import schema
from ouzel.worker.asked import read_events
from ouzel.worker.database import Batch, Committed, Connection, Events, Wanted

T = TypeVar("T")
_log = logging.getLogger(__name__)
_GROUP = 128  # transactions per commit at most, so that nobody waits for long
_LOOK = 0.01  # s between two looks for what other processes have written, while somebody listens
_IDLE_LOOK = 0.1
_BUSY = 10_000  # ms to wait for another process


class SqliteConnection(Events):
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
    """Raises DataLoss if the file is damaged or no SQLite database."""

    def __init__(self, path: Path, *, check: bool = True) -> None:
        self._path = path
        self._listener: Committed = lambda _: None
        self._wanted: Wanted = dict
        self._hearing: threading.Thread | None = None
        self._ended = threading.Event()
        self._local = threading.local()
        self._readers: list[apsw.Connection] = []
        self._asked: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._closing = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _translated():
            self._raw = _connect(path)
            if check:
                self.check()
            _create(self._raw)
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
        with _translated():
            raw = self._reader()
            raw.execute("BEGIN")
            try:
                return work(SqliteConnection(raw))
            finally:
                raw.execute("COMMIT")

    def on_commit(self, listener: Committed, wanted: Wanted) -> None:
        self._listener, self._wanted = listener, wanted
        if self._hearing is None:
            self._hearing = threading.Thread(target=self._hear, name="sqlite-events", daemon=True)
            self._hearing.start()

    def check(self) -> None:
        with _translated():
            found = self._raw.execute("PRAGMA quick_check(5)").fetchall()
        if found != [("ok",)]:
            raise DataLoss(f"{self._path} is damaged: {'; '.join(str(row[0]) for row in found)}")

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._asked.put(None)
        self._writer.join()
        self._ended.set()
        if self._hearing is not None:
            self._hearing.join()
        for raw in [*self._readers, self._raw]:
            raw.close()

    def _hear(self) -> None:
        """Other processes write too, and SQLite tells nobody; but whether they have is known without reading a page."""
        seen = None
        while not self._ended.wait(_LOOK if self._wanted() else _IDLE_LOOK):
            if not self._wanted():
                continue
            try:
                version = self._reader().pragma("data_version")
                if version == seen:
                    continue
                for job, after in self._wanted().items():
                    if events := self.read(lambda c, job=job, after=after: read_events(c, job, after, 500)):  # type: ignore[misc]
                        self._listener([(job, events)])
                seen = version
            except Exception as error:  # noqa: BLE001 - listeners also read now and then, as `listen` says
                _log.warning("new events are not heard of: %s", error)
                self._ended.wait(1.0)

    def _reader(self) -> apsw.Connection:
        """Each thread its own; with the write-ahead log they do not wait for the writer."""
        if self._closed:
            raise Unavailable("the store is closed")
        raw: apsw.Connection | None = getattr(self._local, "raw", None)
        if raw is None:
            raw = self._local.raw = _connect(self._path)
            self._readers.append(raw)
        return raw

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
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to whoever asked
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
    with raw:
        version = raw.execute("PRAGMA user_version").fetchall()[0][0]
        if version not in (0, schema.VERSION):
            raise DataLoss(f"the database has version {version}; this ouzel reads {schema.VERSION}")
        for statement in schema.statements(schema.SQLITE):
            raw.execute(statement)
        raw.execute(f"PRAGMA user_version = {schema.VERSION}")


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
