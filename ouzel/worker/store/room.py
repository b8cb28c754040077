"""How many jobs of an owner wait: counted again only when it could matter, so that a long queue costs no more.

Several workers do not know of each other's counts, so that a few more jobs than the limit may wait: it guards the disk,
and is no promise.
"""

from __future__ import annotations

import threading

from ouzel.errors import ResourceExhausted
from ouzel.worker.store.database import Connection
from ouzel.worker.store.job import State
from ouzel.worker.store.limits import Limits

_WAITING = (State.QUEUED, State.PAUSED)
_SHARE = 32  # of what is left may be used before the next count


class Room:
    """Refuses jobs of owners who have too many that wait."""

    def __init__(self) -> None:
        self._free: dict[str, int] = {}  # jobs of an owner that need no count
        self._lock = threading.Lock()

    def take(self, c: Connection, owner: str, limits: Limits) -> None:
        """Takes the room of one job. Raises ResourceExhausted."""
        with self._lock:
            if self._free.get(owner, 0) > 0:
                self._free[owner] -= 1
                return
        states = ", ".join(str(int(each)) for each in _WAITING)
        row = c.one(f"SELECT COUNT(*) FROM jobs WHERE owner = ? AND state IN ({states})", owner)
        waiting = 0 if row is None else int(row[0])
        if waiting >= limits.queued:
            raise ResourceExhausted(
                f"queued: {waiting} jobs wait already; the limit is {limits.queued}", retry_after=10.0
            )
        with self._lock:
            self._free[owner] = (limits.queued - waiting) // _SHARE
