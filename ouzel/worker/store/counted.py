"""A database of jobs whose failures are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ouzel.errors import DataLoss, Unavailable
from ouzel.worker.store.database import Committed, Connection, Database, Wanted

T = TypeVar("T")
Failed = Callable[[str], None]


class CountedDatabase:
    """See `ouzel.worker.store.database.Database`.

    Args:
        database: Does the work.
        failed: Called with the code of the error of each transaction that the database failed.
    """

    def __init__(self, database: Database, failed: Failed) -> None:
        self._db, self._failed = database, failed
        self.on_commit, self.close = database.on_commit, database.close

    on_commit: Callable[[Committed, Wanted], None]
    close: Callable[[], None]

    def write(self, work: Callable[[Connection], T]) -> T:
        """See `Database`."""
        return self._counted(lambda: self._db.write(work))

    def read(self, work: Callable[[Connection], T]) -> T:
        """See `Database`."""
        return self._counted(lambda: self._db.read(work))

    def check(self) -> None:
        """See `Database`."""
        self._counted(self._db.check)

    def _counted(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (Unavailable, DataLoss) as error:
            self._failed(error.code)
            raise
