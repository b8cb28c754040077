"""The database of jobs: transactions, and events that listeners hear of after the commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ouzel.databases.database import Connection
from ouzel_protos.v1 import job_pb2 as pb

__all__ = ["Batch", "Committed", "Connection", "Database", "Wanted", "wrote"]

T = TypeVar("T")
# Job id and events, as one transaction wrote them.
Batch = tuple[str, list[pb.JobEvent]]
# The jobs that somebody listens to, and the newest event of each that is known.
Wanted = Callable[[], dict[str, int]]
Committed = Callable[[Sequence[Batch]], None]


def wrote(c: Connection, job: str, events: Sequence[pb.JobEvent]) -> None:
    """Notes events of a job, which listeners hear of after the commit."""
    if events:
        c.note((job, list(events)))


class Database(Protocol):
    """`ouzel.databases.database.Database`, with events."""

    def write(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in a transaction that is on the disk when this returns."""

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
