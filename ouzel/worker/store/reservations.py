"""Bytes that are on their way into the store of files: announced and admitted before they come.

A reservation lives while its worker renews it, so that one of a worker that was killed ends by itself. Once its file is
stored it is done, and counts only against those who looked at the files before that.
"""

from __future__ import annotations

from ouzel.worker.store.database import Connection

LIVES = 120.0  # s without being renewed; and for which one that is done is kept


def reserve(c: Connection, owner: str, name: str, size: int, *, stored: int, seen: float, limit: int) -> int | None:
    """Reserves bytes, if they fit.

    Args:
        c: The transaction.
        owner: Whose.
        name: Of the reservation.
        size: In bytes.
        stored: Bytes that the owner has, as they were at the time `seen`.
        seen: When somebody began to count them, at most some tens of seconds ago.
        limit: Of all.

    Returns:
        None if they are reserved; else how many bytes the owner has without them.
    """
    c.lock(f"bytes of {owner}")
    now = c.now()
    c.run("DELETE FROM reservations WHERE (done IS NULL AND until < ?) OR done < ?", now, now - LIVES)
    used = stored + _held(c, owner, seen)
    if used + size > limit:
        return used
    c.run(
        "INSERT INTO reservations (id, owner, bytes, until, done) VALUES (?, ?, ?, ?, NULL)",
        name,
        owner,
        size,
        now + LIVES,
    )
    return None


def renew(c: Connection, owner: str, name: str, size: int) -> None:
    """Has a reservation live on. One that has ended, because a disk or a database was slow, is made again."""
    c.run(
        "INSERT INTO reservations (id, owner, bytes, until, done) VALUES (?, ?, ?, ?, NULL) "
        "ON CONFLICT (id) DO UPDATE SET until = excluded.until",
        name,
        owner,
        size,
        c.now() + LIVES,
    )


def done(c: Connection, name: str) -> None:
    """Notes that the bytes are stored."""
    c.run("UPDATE reservations SET done = ? WHERE id = ?", c.now(), name)


def release(c: Connection, name: str) -> None:
    """Ends a reservation whose bytes do not come."""
    c.run("DELETE FROM reservations WHERE id = ? AND done IS NULL", name)


def held(c: Connection, owner: str) -> int:
    """Bytes that are on their way."""
    row = c.one("SELECT SUM(bytes) FROM reservations WHERE owner = ? AND done IS NULL AND until >= ?", owner, c.now())
    return 0 if row is None or row[0] is None else int(row[0])


def _held(c: Connection, owner: str, seen: float) -> int:
    row = c.one("SELECT SUM(bytes) FROM reservations WHERE owner = ? AND (done IS NULL OR done >= ?)", owner, seen)
    return 0 if row is None or row[0] is None else int(row[0])
