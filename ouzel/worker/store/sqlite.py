"""The jobs of one machine, in SQLite. Other processes that write are looked for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw

from ouzel.databases.database import Connection
from ouzel.databases.sqlite import SqliteDatabase, connect
from ouzel.worker.store.database import Committed, Wanted
from ouzel.worker.store.schema import JOBS
from ouzel.worker.store.subscriptions import EventPoller

T = TypeVar("T")
_log = logging.getLogger(__name__)
_LOOK = 0.005  # s between two looks for what other processes have written, while somebody listens
_IDLE_LOOK = 0.1


class SqliteJobs:
    """A SQLite file that tells of events.

    Args:
        path: The file; it is made if it is missing.
        check: Whether an existing file is checked for damage.

    Raises:
        DataLoss: The file is damaged, or is no SQLite database of jobs.
    """

    def __init__(self, path: Path, *, check: bool = True) -> None:
        self._path = path
        self._listener: Committed = lambda _: None
        self._wanted: Wanted = dict
        self._poller: threading.Thread | None = None
        self._ended = threading.Event()
        self._db = SqliteDatabase(path, JOBS, check=check, noted=self._tell)

    def write(self, work: Callable[[Connection], T]) -> T:
        return self._db.write(work)

    def read(self, work: Callable[[Connection], T]) -> T:
        return self._db.read(work)

    def on_commit(self, listener: Committed, wanted: Wanted) -> None:
        self._listener, self._wanted = listener, wanted
        if self._poller is None:
            self._poller = threading.Thread(target=self._poll, name="sqlite-events", daemon=True)
            self._poller.start()

    def check(self) -> None:
        self._db.check()

    def close(self) -> None:
        self._ended.set()
        self._db.close()
        if self._poller is not None:
            self._poller.join()

    def _tell(self, batches: Sequence[Any]) -> None:
        self._listener(batches)

    def _poll(self) -> None:
        """Other processes write too, and SQLite does not notify; `data_version` tells it without reading a page."""
        poller = EventPoller(self, self._listener, self._wanted)
        raw: apsw.Connection | None = None
        seen = None
        while not self._ended.wait(_LOOK if self._wanted() else _IDLE_LOOK):
            if not self._wanted():
                continue
            try:
                raw = raw or connect(self._path)  # the same each time: the number means nothing on another
                if (version := raw.pragma("data_version")) != seen:
                    poller.changed()
                    seen = version
                poller.catch_up()
            except Exception as error:  # noqa: BLE001 - listeners also read now and then, as `listen` says
                if not self._ended.is_set():
                    _log.warning("new events cannot be read: %s", error)
                    self._ended.wait(1.0)
        if raw is not None:
            raw.close()
