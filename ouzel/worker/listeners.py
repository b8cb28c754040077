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
        self._lock = threading.Lock()

    def add(self, job: str, listener: Listener) -> Callable[[], None]:
        """Returns what takes it out again."""
        with self._lock:
            self._of.setdefault(job, []).append(listener)

        def remove() -> None:
            with self._lock:
                rest = self._of.get(job, [])
                if listener in rest:
                    rest.remove(listener)
                if not rest:
                    self._of.pop(job, None)

        return remove

    def wants(self, job: str) -> bool:
        return job in self._of

    def tell(self, batches: Sequence[Batch]) -> None:
        for job, events in batches:
            with self._lock:
                listeners = list(self._of.get(job, ()))
            for listener in listeners:
                try:
                    listener(events)
                except Exception:  # noqa: BLE001 - it must not keep the others from hearing
                    _log.exception("a listener of %s failed", job)
