"""What the log does in its database: each function is a part of one transaction."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Any

from ouzel.databases.database import Connection
from ouzel.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound
from ouzel.ledger.entry import Entry, NewEntry, salted_hash
from ouzel.ledger.tlog.merkle import WIDTH, hashes_of, range_hash, root_hash

_MOST = 2**63
LOCK = "ledger"  # of those who number, prune and forget
_COLUMNS = "number, seq, hash, body, salt, kind, time"


@dataclass(frozen=True)
class Record:
    """An entry in the database.

    Attributes:
        number: Of the row; it tells nothing of the place in the log.
        index: Its place in the log, from 0; None while it is pending.
        leaf: Its leaf hash.
        body: Its bytes; None once they were pruned.
        salt: Its salt; None once it was forgotten or pruned.
        kind: One of `KINDS`.
        time: See `Entry`.
    """

    number: int
    index: int | None
    leaf: bytes
    body: bytes | None
    salt: bytes | None = field(repr=False)
    kind: str
    time: str

    def tells_of(self, name: str, value: str) -> bool:
        """Whether a value is among the salted hashes of a name; False if salt or body are no longer there."""
        if self.salt is None or self.body is None:
            return False
        return salted_hash(self.salt, name, value) in Entry.parse(self.body).salted.get(name, ())


def claim(c: Connection, identity: str) -> None:
    """Makes the database that of one log, or sees that it is.

    Raises:
        FailedPrecondition: It is that of another one.
    """
    c.lock(LOCK)
    known = meta(c, "identity")
    if known is None:
        c.run("INSERT INTO ledger_meta (name, value) VALUES ('identity', ?)", identity.encode())
        c.run("INSERT INTO ledger_meta (name, value) VALUES ('size', ?)", b"0")
    elif known.decode() != identity:
        raise FailedPrecondition(
            f"the ledger's database belongs to {known.decode()}; this key is that of {identity}", field="key"
        )


def meta(c: Connection, name: str) -> bytes | None:
    """A value of the table of single values."""
    row = c.one("SELECT value FROM ledger_meta WHERE name = ?", name)
    return None if row is None else _bytes(row[0])


def size(c: Connection) -> int:
    """How many entries have an index."""
    value = meta(c, "size") or b"0"
    if not value.isdigit():
        raise DataLoss(f"the ledger's database says {value[:20]!r} is the size of the log")
    return int(value)


def counted(c: Connection) -> tuple[int, int]:
    """Entries with an index, and those without."""
    row = c.one("SELECT COUNT(*) FROM ledger_entries WHERE seq IS NULL")
    return size(c), 0 if row is None else int(row[0])


def insert(c: Connection, new: NewEntry) -> Record:
    """Keeps a new entry, or finds the one of its key.

    Raises:
        AlreadyExists: The key belongs to another statement, or nobody can tell any more.
    """
    if new.key:
        row = c.one(f"SELECT {_COLUMNS}, fingerprint FROM ledger_entries WHERE key = ?", new.key)
        if row is not None:
            known = _record(row[:-1])
            if known.salt is None or known.body is None:
                raise AlreadyExists(f"key: {new.key!r} is that of entry {known.index}, whose salt is gone", field="key")
            if not hmac.compare_digest(new.statement.fingerprint(known.salt), bytes(row[-1])):
                raise AlreadyExists(f"key: {new.key!r} is that of an entry with other facts", field="key")
            return known
    row = c.one(
        "INSERT INTO ledger_entries (hash, body, salt, kind, time, key, fingerprint) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " RETURNING number",
        new.leaf,
        new.body,
        new.salt,
        new.entry.kind,
        new.entry.time,
        new.key or None,
        new.statement.fingerprint(new.salt) if new.key else None,
    )
    assert row is not None
    return Record(int(row[0]), None, new.leaf, new.body, new.salt, new.entry.kind, new.entry.time)


def number_pending(c: Connection, most: int) -> int:
    """Gives indexes to entries that have none, in the order of their rows, and extends the tiles.

    An entry whose transaction had ended before that of another one began has the lower index.

    Returns:
        How many got one; less than `most` if no more are pending.
    """
    c.lock(LOCK)
    start = size(c)
    rows = c.all(
        "UPDATE ledger_entries SET seq = ? + pending.n FROM (SELECT number AS row, row_number() OVER (ORDER BY number)"
        " - 1 AS n FROM (SELECT number FROM ledger_entries WHERE seq IS NULL ORDER BY number LIMIT ?) AS waiting)"
        " AS pending WHERE ledger_entries.number = pending.row RETURNING seq, hash",
        start,
        most,
    )
    leaves = [bytes(leaf) for _, leaf in sorted((int(seq), leaf) for seq, leaf in rows)]
    if sorted(int(seq) for seq, _ in rows) != list(range(start, start + len(rows))):
        raise DataLoss(f"entries from {start} on cannot be numbered without gaps")
    if leaves:
        _extend(c, 0, start, leaves)
        c.run("UPDATE ledger_meta SET value = ? WHERE name = 'size'", str(start + len(leaves)).encode())
    return len(leaves)


def _extend(c: Connection, level: int, start: int, hashes: list[bytes]) -> None:
    """Adds hashes to a level of the tiles; each tile that they fill becomes a hash of the level above."""
    number, offset = divmod(start, WIDTH)
    held = hashes_of(read_tile(c, level, number)) if offset else []
    if len(held) != offset:
        raise DataLoss(f"tile {level}/{number} in the ledger's database has {len(held)} hashes instead of {offset}")
    full: list[bytes] = []
    while hashes:
        held, hashes = held + hashes[: WIDTH - len(held)], hashes[WIDTH - len(held) :]
        c.run(
            "INSERT INTO ledger_tiles (level, number, hashes) VALUES (?, ?, ?)"
            " ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes",
            level,
            number,
            b"".join(held),
        )
        if len(held) == WIDTH:
            full.append(root_hash(held))
        number, held = number + 1, []
    if full:
        _extend(c, level + 1, start // WIDTH, full)


def read_tile(c: Connection, level: int, number: int) -> bytes:
    """The hashes of a tile, as many as it has now.

    Raises:
        DataLoss: It is missing.
    """
    row = c.one("SELECT hashes FROM ledger_tiles WHERE level = ? AND number = ?", level, number)
    if row is None:
        raise DataLoss(f"tile {level}/{number} is missing in the ledger's database")
    return bytes(row[0])


def root(c: Connection, count: int) -> bytes:
    """Root over the first `count` entries."""
    return range_hash(lambda level, number: read_tile(c, level, number), 0, count)


def bodies(c: Connection, start: int, end: int) -> list[bytes] | None:
    """Bytes of the entries start..end - 1; None if some were pruned."""
    rows = c.all("SELECT body FROM ledger_entries WHERE seq >= ? AND seq < ? ORDER BY seq", start, end)
    if len(rows) != end - start:
        raise DataLoss(f"the ledger's database lacks some of the entries {start} to {end - 1}")
    return None if any(body is None for (body,) in rows) else [bytes(body) for (body,) in rows]


def by_number(c: Connection, number: int) -> Record:
    """The entry of a row. Raises NotFound."""
    row = c.one(f"SELECT {_COLUMNS} FROM ledger_entries WHERE number = ?", number)
    if row is None:
        raise NotFound("the ledger's database has no such entry; was it restored from an older backup?")
    return _record(row)


def by_index(c: Connection, index: int) -> Record:
    """The entry of an index. Raises NotFound."""
    row = None
    if 0 <= index < _MOST:
        row = c.one(f"SELECT {_COLUMNS} FROM ledger_entries WHERE seq = ?", index)
    if row is None:
        raise NotFound(f"entry: {index} is not in the log, which has {size(c)} entries", field="entry")
    return _record(row)


def select(c: Connection, start: int, end: int, kind: str, limit: int) -> list[Record]:
    """Entries with indexes start..end - 1, of one kind ("" is any), the first `limit` of them."""
    rows = c.all(
        f"SELECT {_COLUMNS} FROM ledger_entries WHERE seq >= ? AND seq < ? AND (kind = ? OR ? = '')"
        " ORDER BY seq LIMIT ?",
        start,
        end,
        kind,
        kind,
        limit,
    )
    return [_record(row) for row in rows]


def last_of(c: Connection, kind: str) -> Record | None:
    """The newest entry of a kind that has an index."""
    row = c.one(
        f"SELECT {_COLUMNS} FROM ledger_entries WHERE kind = ? AND seq IS NOT NULL ORDER BY seq DESC LIMIT 1", kind
    )
    return None if row is None else _record(row)


def forget(c: Connection, index: int) -> None:
    """Deletes the salt of an entry."""
    c.lock(LOCK)
    by_index(c, index)
    c.run("UPDATE ledger_entries SET salt = NULL WHERE seq = ?", index)


def prunable(c: Connection, before: str) -> int:
    """Up to where all entries are older than a time: an index at the beginning of a bundle."""
    row = c.one("SELECT min(seq) FROM ledger_entries WHERE time >= ? AND seq IS NOT NULL", before)
    newer = size(c) if row is None or row[0] is None else int(row[0])
    return newer // WIDTH * WIDTH


def prune(c: Connection, start: int, end: int) -> None:
    """Deletes bodies and salts of the entries start..end - 1. Their hashes stay."""
    c.lock(LOCK)
    c.run(
        "UPDATE ledger_entries SET body = NULL, salt = NULL, fingerprint = NULL"
        " WHERE seq >= ? AND seq < ? AND body IS NOT NULL",
        start,
        end,
    )


def _record(row: tuple[Any, ...]) -> Record:
    number, index, leaf, body, salt, kind, time = row
    return Record(int(number), index, _bytes(leaf) or b"", _bytes(body), _bytes(salt), kind, time)


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, str | int | float):  # SQLite lets every type into every column
        raise DataLoss("the ledger's database has a text or a number in the place of bytes")
    return None if value is None else bytes(value)
