"""Comparing a log's database with what is published."""

from __future__ import annotations

from functools import partial

from ouzel.databases.database import Connection, Database
from ouzel.errors import DataLoss
from ouzel.ledger import records
from ouzel.ledger.entry import Entry
from ouzel.ledger.tlog.merkle import leaf_hash
from ouzel.ledger.verification.verify import Problem, Verification

_PART = 1000  # entries per reading


def compare(database: Database, verification: Verification) -> tuple[Problem, ...]:
    """Compares a log's database with its published files.

    Args:
        database: The database. It may be ahead of what is published.
        verification: Of the files.

    Returns:
        What is wrong, the first entry first.

    Raises:
        Unavailable: The database does not answer.
    """
    checkpoint = verification.checkpoint
    if checkpoint is None:
        return ()
    size = database.read(records.size)
    if size < checkpoint.size:
        return (
            Problem(
                size, "database", f"has {size} entries, fewer than are published: it was rolled back, or is another"
            ),
        )
    problems = []
    for start in range(0, size, _PART):
        rows = database.read(partial(records.select, start=start, end=start + _PART, kind="", limit=_PART))
        for index, record in enumerate(rows, start):
            if problem := _wrong(record, index, verification):
                problems.append(problem)
                break
        if not problems and len(rows) != min(_PART, size - start):
            problems.append(Problem(start + len(rows), "database", "the entry is missing"))
        if problems:
            break
    if not problems:
        problems += _tiles(database, checkpoint.size, checkpoint.root)
    return tuple(problems)


def _wrong(record: records.Record, index: int, verification: Verification) -> Problem | None:
    what = ""
    if record.index != index:
        what = "the entry is missing"
    elif index < len(verification.leaves) and record.leaf != verification.leaves[index]:
        what = "the leaf hash is not the published one"
    elif record.body is not None:
        what = _wrong_body(record, record.body)
    elif index >= verification.pruned:
        what = "the body is missing, and no entry says that it was pruned"
    return Problem(index, "database", what) if what else None


def _wrong_body(record: records.Record, body: bytes) -> str:
    if leaf_hash(body) != record.leaf:
        return "the body does not have the entry's leaf hash"
    try:
        entry = Entry.parse(body)
    except DataLoss as error:
        return str(error)
    same = (entry.kind, entry.time) == (record.kind, record.time)
    return "" if same else "kind or time beside the body are not those in it"


def _tiles(database: Database, size: int, root: bytes) -> list[Problem]:
    def computed(c: Connection) -> bytes:
        return records.root(c, size)

    try:
        own = database.read(computed)
    except (DataLoss, ValueError) as error:
        return [Problem(None, "database", str(error))]
    return [] if own == root else [Problem(None, "database", "its tiles do not lead to the published root")]
