"""What the store asks of a database: transactions that are durable when they return, and a little SQL.

Two answers: `sqlite` (one machine) and `postgres` (many). The SQL is the same but for the fragments named here; its
placeholders are question marks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from ouzel_protos.v1 import job_pb2 as pb

T = TypeVar("T")
# Job id and events, as one transaction wrote them.
Batch = tuple[str, list[pb.JobEvent]]
# The jobs that somebody listens to, and the newest event of each that is known.
Wanted = Callable[[], dict[str, int]]
Committed = Callable[[Sequence[Batch]], None]


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

    def wrote(self, job: str, events: Sequence[pb.JobEvent]) -> None:
        """Notes events, which listeners hear of after the commit."""


class Database(Protocol):
    """A database that runs transactions."""

    def write(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in a transaction that is on the disk when this returns.

        `work` may be run again after a conflict, so its only effects are those on the connection. An error of its own
        undoes what it did and is passed on.
        """

    def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work`, which only reads, on one state of the database."""

    def on_commit(self, listener: Committed, wanted: Wanted) -> None:
        """Has a listener called after each commit that wrote events, also by other processes.

        Args:
            listener: Gets the events; it never raises.
            wanted: The jobs of interest. Events of other jobs may be left out; some may come twice.
        """

    def check(self) -> None:
        """Raises DataLoss if the database is damaged, Unavailable if it does not answer."""

    def close(self) -> None:
        """Closes all connections."""


class Events:
    """Collects what a transaction tells its listeners."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def wrote(self, job: str, events: Sequence[pb.JobEvent]) -> None:
        """Notes events of a job."""
        if events:
            self.batches.append((job, list(events)))
