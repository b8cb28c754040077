"""Numbering entries and publishing them: tiles first, the checkpoint last, and never a checkpoint that goes back.

The database is the truth about the entries, the published checkpoint about what was promised to others. Before a new
one is signed, the published one must be the beginning of what the database has: a database that was rolled back, or
another one with the same key, is refused, and nothing is written.
"""

from __future__ import annotations

import random
import threading
import time

from ouzel.databases.database import Connection, Database
from ouzel.errors import DataLoss, DeadlineExceeded
from ouzel.ledger import records
from ouzel.ledger.published.storage import Conflict, Storage
from ouzel.ledger.tlog.checkpoint import Checkpoint, read_checkpoint
from ouzel.ledger.tlog.merkle import EMPTY, SIZE, WIDTH
from ouzel.ledger.tlog.note import Note, Signature, Signer
from ouzel.ledger.tlog.tiles import CHECKPOINT, VKEY, TileName, bundle, changed, superseded

_BATCH = 4096  # entries that are numbered in one transaction
_PAUSE = 0.05  # s, at most, until a publisher that was too slow tries again


class Publisher:
    """Publishes one log. Any thread may call any method; one works, the others wait and find it done.

    Args:
        database: Holds the entries.
        storage: Gets the files.
        signer: Signs the checkpoints.
    """

    def __init__(self, database: Database, storage: Storage, signer: Signer) -> None:
        self._db = database
        self._storage = storage
        self._signer = signer
        self._lock = threading.Lock()
        self._latest: tuple[Checkpoint, bytes] | None = None
        self._seen: float | None = None

    def latest(self) -> tuple[Checkpoint, bytes] | None:
        """The checkpoint and its note that this process has seen last."""
        return self._latest

    def age(self) -> float | None:
        """Seconds since all entries were seen to be published; None if they never were by this process."""
        return None if self._seen is None else time.monotonic() - self._seen

    def publish(self, deadline: float, enough: int | None = None) -> tuple[Checkpoint, bytes]:
        """Numbers what is pending, and publishes.

        Args:
            deadline: Of `time.monotonic`.
            enough: A checkpoint that contains this index will do, if somebody has published it meanwhile.

        Returns:
            The published checkpoint and its note.

        Raises:
            DataLoss: What is published is not the beginning of what the database has.
            DeadlineExceeded: Others published until the deadline.
            ResourceExhausted: The disk is full.
            Unavailable: The database or the storage does not answer.
        """
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DeadlineExceeded("the log is being published by another thread")
        try:
            if enough is not None and self._latest is not None and self._latest[0].size > enough:
                return self._latest
            with self._storage.locked(deadline):
                return self._publish(deadline, enough)
        finally:
            self._lock.release()

    def cosign(self, deadline: float, checkpoint: Checkpoint, signatures: list[Signature]) -> bool:
        """Adds signatures of others to the published checkpoint.

        Returns:
            Whether it still was the published one.
        """
        with self._lock, self._storage.locked(deadline):
            content = self._storage.read(CHECKPOINT)
            if content is None:
                return False
            known, note = read_checkpoint(content, self._signer.verifier)
            if known != checkpoint:
                return False
            news = {(each.name, each.key_id) for each in signatures}
            kept = [each for each in note.signatures if (each.name, each.key_id) not in news]
            new = Note(note.text, (*kept, *signatures)).encode()
            self._storage.swap(content, new)
            self._latest = (checkpoint, new)
            return True

    def _publish(self, deadline: float, enough: int | None) -> tuple[Checkpoint, bytes]:
        while True:
            content = self._storage.read(CHECKPOINT)
            known = self._known(content)
            self._require_prefix(known)  # before anything is numbered: a refused database stays as it is
            if content is not None and enough is not None and known.size > enough:
                break
            while self._db.write(lambda c: records.number_pending(c, _BATCH)) == _BATCH:
                pass
            size, root = self._db.read(_head)
            if content is not None and size == known.size:
                break
            new = Checkpoint(self._signer.name, size, root)
            try:
                content = self._write(content, known, new)
            except Conflict as error:  # where there is no lock, another publisher was faster
                if time.monotonic() >= deadline:
                    raise DeadlineExceeded(f"others publish to {self._storage} all the time") from error
                time.sleep(random.uniform(0.0, _PAUSE))
                continue
            known = new
            break
        self._latest, self._seen = (known, content), time.monotonic()
        return self._latest

    def _known(self, content: bytes | None) -> Checkpoint:
        """The published checkpoint; that of no entries before there is one."""
        if content is None:
            return Checkpoint(self._signer.name, 0, EMPTY)
        try:
            return read_checkpoint(content, self._signer.verifier)[0]
        except DataLoss as error:
            raise DataLoss(f"the published checkpoint at {self._storage} is not of this log: {error}") from error

    def _require_prefix(self, known: Checkpoint) -> None:
        def look(c: Connection) -> tuple[int, bytes | None]:
            size = records.size(c)
            return size, records.root(c, known.size) if known.size <= size else None

        size, root = self._db.read(look)
        if root is None:
            raise DataLoss(
                f"the checkpoint at {self._storage} has {known.size} entries, the ledger's database {size}: the "
                "database was rolled back (restored from an older backup), or it is not the one that published them. "
                "Nothing was written"
            )
        if root != known.root:
            raise DataLoss(
                f"the checkpoint at {self._storage} and the ledger's database differ within the first {known.size} "
                "entries: a fork. Another database publishes there, or one of both was changed. Nothing was written"
            )

    def _write(self, content: bytes | None, old: Checkpoint, new: Checkpoint) -> bytes:
        for name in changed(old.size, new.size):
            tile = self._content(name)
            if tile is not None:
                self._storage.create(name.path, tile)
        self._storage.create(VKEY, f"{self._signer.verifier}\n".encode())
        signed = self._signer.sign(new.text()).encode()
        self._storage.swap(content, signed)
        for name in superseded(old.size, new.size):
            if old.size > name.number * WIDTH << 8 * (name.level or 0):  # there was a partial one
                self._storage.delete(f"{name.full}.p")
        return signed

    def _content(self, name: TileName) -> bytes | None:
        """A tile or a bundle; None if its entries were pruned."""
        start = name.number * WIDTH
        if name.level is None:
            entries = self._db.read(lambda c: records.bodies(c, start, start + name.width))
            return None if entries is None else bundle(entries)
        level = name.level
        return self._db.read(lambda c: records.read_tile(c, level, name.number))[: name.width * SIZE]


def _head(c: Connection) -> tuple[int, bytes]:
    size = records.size(c)
    return size, records.root(c, size)
