"""Listeners to the events of jobs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ouzel.worker.store.client_ops import read_events
from ouzel.worker.store.database import Batch, Committed, Database, Wanted
from ouzel.worker.store.protocol import Listener
from ouzel_protos.v1 import job_pb2 as pb

_log = logging.getLogger(__name__)
_PART = 500  # events per reading


@dataclass(eq=False)
class _Entry:
    listener: Listener
    known: int  # it has been told of all events up to here

    def take(self, events: Sequence[pb.JobEvent]) -> Sequence[pb.JobEvent]:
        """Those that are news."""
        if not events:
            return events
        fresh = [each for each in events if each.sequence > self.known]
        if events[0].sequence <= self.known + 1:
            self.known = max(self.known, events[-1].sequence)
        return fresh


class Listeners:
    """The listeners of one store. Any thread may call any method."""

    def __init__(self) -> None:
        self._of: dict[str, list[_Entry]] = {}
        self._lock = threading.Lock()

    def add(self, job: str, listener: Listener, after: int = 0) -> Callable[[], None]:
        """Adds a listener.

        Args:
            job: Whose events it hears.
            listener: Is called with them.
            after: The events up to here are known to it.

        Returns:
            What removes it.
        """
        entry = _Entry(listener, after)
        with self._lock:
            self._of.setdefault(job, []).append(entry)

        def remove() -> None:
            with self._lock:
                rest = self._of.get(job, [])
                if entry in rest:
                    rest.remove(entry)
                    if not rest:
                        del self._of[job]

        return remove

    def wanted(self) -> dict[str, int]:
        """The jobs that have listeners, and the newest event of each that all of these have heard of."""
        with self._lock:
            return {job: min(each.known for each in entries) for job, entries in self._of.items()}

    def tell(self, batches: Sequence[Batch]) -> None:
        """Hands new events to the listeners."""
        for job, events in batches:
            with self._lock:
                news = [(entry.listener, entry.take(events)) for entry in self._of.get(job, ())]
            for listener, fresh in news:
                if not fresh:
                    continue
                try:
                    listener(fresh)
                except Exception:  # noqa: BLE001 - it must not keep the others from hearing
                    _log.exception("a listener of %s failed", job)


class EventPoller:
    """Reads events that the listeners have not heard of yet. Not to be shared between threads.

    Args:
        database: Holds the events.
        listener: Gets them.
        wanted: The jobs of interest, with the newest event that is known.
    """

    def __init__(self, database: Database, listener: Committed, wanted: Wanted) -> None:
        self._db = database
        self._listener = listener
        self._wanted = wanted
        # The newest event of each job when it was last read. A new listener that knows less is a reason to read again.
        self._read: dict[str, int] = {}

    def changed(self, job: str | None = None) -> None:
        """Notes that there may be new events of a job, or of any."""
        if job is None:
            self._read.clear()
        else:
            self._read.pop(job, None)

    def catch_up(self) -> None:
        """Reads what is new."""
        wanted = self._wanted()
        self._read = {job: newest for job, newest in self._read.items() if job in wanted}
        for job, after in wanted.items():
            if self._read.get(job) != after:
                self._read[job] = self._catch_up(job, after)

    def _catch_up(self, job: str, after: int) -> int:
        while True:
            events = self._db.read(lambda c, after=after: read_events(c, job, after, _PART))  # type: ignore[misc]
            if events:
                self._listener([(job, events)])
                after = events[-1].sequence
            if len(events) < _PART:
                return after
