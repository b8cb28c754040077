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

    def all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]: ...

    def one(self, sql: str, *values: Any) -> tuple[Any, ...] | None: ...

    def run(self, sql: str, *values: Any) -> int:
        """Returns how many rows were changed."""

    def now(self) -> float:
        """Seconds since the epoch, for people to read. Nothing is ever decided by it."""

    def lock(self, name: str) -> None:
        """Let no other transaction that asks for this name go on until this one has ended."""

    def wrote(self, job: str, events: Sequence[pb.JobEvent]) -> None:
        """To be told to listeners after the commit."""


class Database(Protocol):
    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction that is on the disk when this returns.

        `work` may be run again after a conflict, so it has no effects but those on the connection. An error of its own
        undoes what it did and is passed on.
        """

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, on one state of the database."""

    def on_commit(self, listener: Committed, wanted: Wanted) -> None:
        """Have `listener` called after each commit that wrote events, also by other processes.

        `listener` never raises. Events of jobs that are not in `wanted()` may be left out; some may come twice.
        """

    def check(self) -> None: ...

    def close(self) -> None: ...


class Events:
    """Collects what a transaction tells its listeners."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def wrote(self, job: str, events: Sequence[pb.JobEvent]) -> None:
        if events:
            self.batches.append((job, list(events)))
