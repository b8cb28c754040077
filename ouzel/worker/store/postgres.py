"""The jobs of many machines, in PostgreSQL.

NOTIFY tells all workers which job has new events. A worker reads the events if one of its callers listens to that
job.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ouzel.databases.database import Connection
from ouzel.databases.postgres import PostgresDatabase
from ouzel.worker.store.database import Committed, Wanted
from ouzel.worker.store.schema import JOBS
from ouzel.worker.store.subscriptions import EventPoller

T = TypeVar("T")
_log = logging.getLogger(__name__)
_CHANNEL = "ouzel_events"
_LOOK = 0.05  # s between two looks for new listeners


class PostgresJobs:
    """A PostgreSQL database that tells of events.

    Args:
        url: "postgresql://...".

    Raises:
        Unavailable: The server does not answer.
    """

    def __init__(self, url: str) -> None:
        self._closed = threading.Event()
        self._listening = threading.Event()
        self._listener: Committed = lambda _: None
        self._wanted: Wanted = dict
        self._poller: threading.Thread | None = None
        self._db = PostgresDatabase(url, JOBS, committing=_notify)

    def write(self, work: Callable[[Connection], T]) -> T:
        return self._db.write(work)

    def read(self, work: Callable[[Connection], T]) -> T:
        return self._db.read(work)

    def on_commit(self, listener: Committed, wanted: Wanted) -> None:
        self._listener, self._wanted = listener, wanted
        if self._poller is None:
            self._poller = threading.Thread(target=self._poll, name="postgres-events", daemon=True)
            self._poller.start()
            self._listening.wait(10.0)

    def check(self) -> None:
        self._db.check()

    def close(self) -> None:
        self._closed.set()
        if self._poller is not None:
            self._poller.join()
        self._db.close()

    def _poll(self) -> None:
        while not self._closed.is_set():
            try:
                with self._db.connect() as raw:
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


def _notify(c: Connection, batches: Sequence[Any]) -> None:
    """Tells other processes which jobs have new events."""
    for job in {job for job, _ in batches}:
        c.one("SELECT pg_notify(?, ?)", _CHANNEL, job)
