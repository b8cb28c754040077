"""Who is to be told of a job's new events."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from ouzel.worker.database import Batch
from ouzel.worker.store import Listener

_log = logging.getLogger(__name__)


class Listeners:
    def __init__(self) -> None:
        self._of: dict[str, list[Listener]] = {}
        self._known: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, job: str, listener: Listener, after: int = 0) -> Callable[[], None]:
        """after: the events up to here are known to it. Returns what takes it out again."""
        with self._lock:
            self._of.setdefault(job, []).append(listener)
            self._known[job] = min(after, self._known.get(job, after))

        def remove() -> None:
            with self._lock:
                rest = self._of.get(job, [])
                if listener in rest:
                    rest.remove(listener)
                if not rest:
                    self._of.pop(job, None)
                    self._known.pop(job, None)

        return remove

    def wanted(self) -> dict[str, int]:
        """The jobs that somebody listens to, and the newest event of each that all have been told of."""
        with self._lock:
            return dict(self._known)

    def tell(self, batches: Sequence[Batch]) -> None:
        for job, events in batches:
            with self._lock:
                listeners = list(self._of.get(job, ()))
                if events and job in self._known and events[0].sequence <= self._known[job] + 1:
                    self._known[job] = max(self._known[job], events[-1].sequence)
            for listener in listeners:
                try:
                    listener(events)
                except Exception:  # noqa: BLE001 - it must not keep the others from hearing
                    _log.exception("a listener of %s failed", job)
