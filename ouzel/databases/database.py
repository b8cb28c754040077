"""What Ouzel asks of a database: transactions that are durable when they return, and a little SQL.

Two answers: `sqlite` (one machine) and `postgres` (many). The SQL is the same but for the fragments named here; its
placeholders are question marks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
# Gets what the transactions of one commit have noted.
Noted = Callable[[Sequence[Any]], None]


class Connection(Protocol):
    """One open transaction."""

    for_update: str  # at the end of a SELECT: lock its rows until the end of the transaction

    def all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""

    def one(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        """The first row of a query; None if it has no rows."""

    def run(self, sql: str, *values: Any) -> int:
        """Runs a statement; returns how many rows it changed."""

    def now(self) -> float:
        """Seconds since the epoch, for people to read. No decision depends on it."""

    def lock(self, name: str) -> None:
        """Lets no other transaction that asks for this name go on until this one has ended."""

    def note(self, what: Any) -> None:
        """Notes something that whoever opened the database hears of with the commit, and never without."""


class Database(Protocol):
    """A database that runs transactions."""

    def write(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in a transaction that is on the disk when this returns.

        `work` may be run again after a conflict, so its only effects are those on the connection. An error of its own
        undoes what it did and is passed on.
        """

    def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work`, which only reads, on one state of the database."""

    def check(self) -> None:
        """Raises DataLoss if the database is damaged, Unavailable if it does not answer."""

    def close(self) -> None:
        """Closes all connections."""
