"""The workers of a store. One is on the list while it says so again and again, by the clock of the database.

What is refused and told of jobs goes by this list; which job runs where does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from ouzel.worker.store.database import Connection


@dataclass(frozen=True)
class Roster:
    """The workers of a store.

    Attributes:
        workers: How many there are.
        most: Slots of the one that has most; 0 if there is none.
    """

    workers: int
    most: int

    def __str__(self) -> str:
        if self.workers == 1:
            return f"the only worker has {self.most}"
        return f"the largest of {self.workers} workers has {self.most}"


def read(c: Connection) -> Roster:
    """Reads who is there."""
    row = c.one("SELECT COUNT(*), MAX(slots) FROM workers WHERE until >= ?", c.now())
    return Roster(0, 0) if row is None else Roster(int(row[0]), int(row[1] or 0))


def enter(c: Connection, worker: str, slots: int, lives: float) -> Roster:
    """Keeps a worker on the list for `lives` seconds; returns who is there then."""
    now = c.now()
    c.run("DELETE FROM workers WHERE until < ? AND name <> ?", now - lives, worker)
    c.run(
        "INSERT INTO workers (name, slots, until) VALUES (?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET slots = excluded.slots, until = excluded.until",
        worker,
        slots,
        now + lives,
    )
    return read(c)


def leave(c: Connection, worker: str) -> None:
    """Takes a worker off the list."""
    c.run("DELETE FROM workers WHERE name = ?", worker)
