"""Time as the sink counts it: seconds in which it ran. Deadlines do not pass while it is down or a clock is set."""

from __future__ import annotations

import time

from ouzel.databases.database import Connection
from ouzel.databases.sqlite import SqliteDatabase

_NAME = "clock"


class Clock:
    """Goes on where the last process stopped.

    Args:
        database: Where it is kept.
    """

    def __init__(self, database: SqliteDatabase) -> None:
        row = database.read(lambda c: c.one("SELECT value FROM meta WHERE name = ?", _NAME))
        self._offset = (float(row[0]) if row else 0.0) - time.monotonic()

    def now(self) -> float:
        """Seconds."""
        return self._offset + time.monotonic()

    def save(self, connection: Connection) -> None:
        """Puts the time down."""
        connection.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", _NAME, self.now())
