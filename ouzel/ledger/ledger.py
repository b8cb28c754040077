"""The log: what others append to, and ask for proofs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

from ouzel.databases.database import Database
from ouzel.errors import DataLoss, InvalidArgument, OuzelError
from ouzel.ledger import records
from ouzel.ledger.entry import Entry, Statement, time_text
from ouzel.ledger.published.storage import Storage
from ouzel.ledger.publisher import Publisher
from ouzel.ledger.records import Record
from ouzel.ledger.tlog.checkpoint import Checkpoint
from ouzel.ledger.tlog.merkle import WIDTH, consistency_proof, inclusion_proof
from ouzel.ledger.tlog.note import Signature, VerifierKey
from ouzel.ledger.tlog.proof import Proof
from ouzel.ledger.tlog.tiles import TileName

_log = logging.getLogger(__name__)
_LONGEST_KEY = 200  # characters
_IDLE = 60.0  # s, after which the published checkpoint is looked at although nothing was appended here
_PART = 5000  # entries in one transaction
PATIENCE = 60.0  # s for publishing when the log is opened and closed
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Receipt:
    """What the caller of `append` gets: enough to check the entry later on, with its proof.

    Attributes:
        number: Names the entry in this log's database before it has an index.
        index: Its place in the log, from 0; None while it is pending.
        entry: Its bytes.
        leaf: Its leaf hash, 32 bytes.
        salt: 16 bytes that open its salted hashes. Whoever must not be able to guess them must not get it.
    """

    number: int
    index: int | None
    entry: bytes
    leaf: bytes
    salt: bytes = field(repr=False)


class Ledger:
    """A tamper-evident log. Any thread may call any method. `open_ledger` makes it.

    Attributes:
        key: Verifies its checkpoints.
    """

    def __init__(
        self, database: Database, storage: Storage, publisher: Publisher, key: VerifierKey, publish_every: float | None
    ) -> None:
        self.key = key
        self._db = database
        self._storage = storage
        self._publisher = publisher
        self._refused: DataLoss | None = None
        self._closed = threading.Event()
        self._appended = threading.Event()
        self._thread: threading.Thread | None = None
        self._publishes = publish_every is not None
        if publish_every:
            self._thread = threading.Thread(target=self._keep_publishing, args=(publish_every,), daemon=True)
            self._thread.start()

    def append(
        self,
        kind: str,
        facts: Mapping[str, Any],
        *,
        images: Sequence[str] = (),
        owner: str = "",
        salted: Mapping[str, str | Sequence[str]] = _NOTHING,
        key: str = "",
    ) -> Receipt:
        """Adds an entry. It is on the disk when this returns, and published soon after.

        Args:
            kind: One of `KINDS`.
            facts: What happened: a JSON object without personal data. It is public where the log is.
            images: SHA-256 of images' bytes, in lower-case hex. They stand in the entry salted.
            owner: Who asked. It stands in the entry salted.
            salted: Other values, by name, that could be guessed from a plain hash. They stand in the entry salted.
            key: Tells the same event from others, up to 200 characters: the same key and facts again give the receipt
                of the entry that is there. "" always adds an entry.

        Returns:
            The receipt.

        Raises:
            AlreadyExists: The key belongs to an entry with other facts, or to one whose salt is deleted.
            DataLoss: The log is refused, see `open_ledger`; or the database is damaged.
            InvalidArgument: An argument is not what it must be.
            ResourceExhausted: The disk is full. Nothing was added.
            TooLarge: The entry would have more than 65,535 bytes.
            Unavailable: The database does not answer; whether the entry was added is not known. Ask again with a key.
        """
        if self._refused is not None:
            raise DataLoss(str(self._refused)) from self._refused
        if len(key) > _LONGEST_KEY or "\0" in key:
            raise InvalidArgument(f"key: {len(key)} characters, at most {_LONGEST_KEY} and no NUL", field="key")
        statement = Statement.of(kind, facts, images, owner, salted)
        new = statement.entry(key)
        record = self._db.write(lambda c: records.insert(c, new))
        self._appended.set()
        if record.body is None or record.salt is None:  # `insert` refuses such
            raise AssertionError(record)
        return Receipt(record.number, record.index, record.body, record.leaf, record.salt)

    def prove(self, receipt: Receipt | int, timeout: float = 30.0) -> str:
        """Proves that an entry is in the published log; publishes it first if nobody has yet.

        Args:
            receipt: Of `append`, or the index of an entry.
            timeout: Seconds.

        Returns:
            A proof of the form c2sp.org/tlog-proof@v1.

        Raises:
            DataLoss: The log is refused, see `open_ledger`.
            DeadlineExceeded: It could not be published in time.
            NotFound: There is no such entry.
            Unavailable: The database or the storage does not answer.
        """
        deadline = time.monotonic() + timeout
        index = receipt if isinstance(receipt, int) else receipt.index
        if isinstance(receipt, int):
            index = self._db.read(lambda c: records.by_index(c, receipt)).index
        elif index is None:
            index = self._db.read(lambda c: records.by_number(c, receipt.number)).index
        latest = self._publisher.latest()
        if index is None or latest is None or latest[0].size <= index:
            checkpoint, note = self.publish(deadline - time.monotonic(), index)
        else:
            checkpoint, note = latest
        if isinstance(receipt, Receipt):
            record = self._db.read(lambda c: records.by_number(c, receipt.number))
            if record.leaf != receipt.leaf:
                raise DataLoss("the ledger's database has another entry in the place of this one")
            index = record.index
        if index is None or index >= checkpoint.size:
            raise DataLoss("the entry is not in the log although it was published")
        place = index
        hashes = self._db.read(
            lambda c: inclusion_proof(lambda level, n: records.read_tile(c, level, n), place, checkpoint.size)
        )
        return Proof(place, hashes, note).text()

    def publish(self, timeout: float = 30.0, enough: int | None = None) -> tuple[Checkpoint, bytes]:
        """Publishes what is not yet published.

        Args:
            timeout: Seconds.
            enough: A checkpoint that contains this index will do.

        Returns:
            The checkpoint, and its signed note.

        Raises:
            As `prove`.
        """
        try:
            return self._publisher.publish(time.monotonic() + timeout, enough)
        except DataLoss as error:
            self._refused = error
            raise

    def entry(self, index: int) -> Record:
        """An entry with its salt. Raises NotFound."""
        return self._db.read(lambda c: records.by_index(c, index))

    def entries(self, start: int = 0, end: int | None = None, *, kind: str = "", limit: int = 1000) -> list[Record]:
        """The first entries with indexes start..end - 1, of one kind ("" is any), `limit` of them at most."""
        last = 2**62 if end is None else end
        return self._db.read(lambda c: records.select(c, start, last, kind, limit))

    def search(self, name: str, value: str) -> Iterator[Record]:
        """The entries that hold a value in their salted hashes, as far as their salts are there.

        Args:
            name: "images", "owner", or another name of `append`.
            value: As it was given to `append`.
        """
        start = 0
        while rows := self.entries(start):
            yield from (record for record in rows if record.tells_of(name, value))
            start = (rows[-1].index or 0) + 1

    def size(self) -> int:
        """How many entries have an index."""
        return self._db.read(records.size)

    def state(self) -> tuple[int, int, float | None]:
        """Entries with an index, entries without, and seconds since all were seen to be published (None: never)."""
        return (*self._db.read(records.counted), self._publisher.age())

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Hashes that show that the log at size `new` begins with the log at size `old`."""
        return self._db.read(lambda c: consistency_proof(lambda level, n: records.read_tile(c, level, n), old, new))

    def cosign(self, checkpoint: Checkpoint, signatures: list[Signature], timeout: float = 30.0) -> bool:
        """Keeps signatures of witnesses with the published checkpoint; False if it is no longer the published one."""
        return self._publisher.cosign(time.monotonic() + timeout, checkpoint, signatures)

    def forget(self, index: int) -> Receipt:
        """Deletes the salt of an entry, so that nobody can check a guess of what it was about any more.

        Returns:
            The receipt of the entry that says so.

        Raises:
            NotFound: There is no such entry.
        """
        self.entry(index)
        receipt = self.append("forget", {"entry": index})
        self._db.write(lambda c: records.forget(c, index))
        return receipt

    def prune(self, age: timedelta = timedelta(days=365)) -> int:
        """Deletes the bodies and salts of entries that are older than `age`, in whole bundles of 256.

        Their hashes stay: proofs of them, and of later entries, hold. An entry says what was pruned.

        Returns:
            The index before which all bodies are deleted; 0 if none is.
        """
        before = time_text(datetime.now(UTC) - age)
        end, last = self._db.read(lambda c: (records.prunable(c, before), records.last_of(c, "prune")))
        done = int(Entry.parse(last.body).facts["end"]) if last is not None and last.body is not None else 0
        if end > done:
            self.append("prune", {"before": before, "end": end})
            self.publish(PATIENCE)
        end = max(end, done)  # what an earlier call did not come to is done now
        for start in range(0, end, _PART):
            self._db.write(partial(records.prune, start=start, end=min(end, start + _PART)))
        for number in range(end // WIDTH):
            name = TileName(None, number)
            self._storage.delete(name.path)
            self._storage.delete(f"{name.path}.p")
        return end

    def check(self) -> None:
        """Raises DataLoss if the log is refused or damaged, Unavailable if the database does not answer."""
        if self._refused is not None:
            raise DataLoss(str(self._refused)) from self._refused
        self._db.check()

    def close(self) -> None:
        """Publishes what is pending, if that works, and closes the database."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._appended.set()
        if self._thread is not None:
            self._thread.join()
        if self._publishes and self._refused is None:
            try:
                self.publish(PATIENCE)
            except OuzelError as error:
                _log.warning("the log could not be published while closing: %s", error)
        self._db.close()

    def _keep_publishing(self, every: float) -> None:
        failing, looked = False, time.monotonic()
        while not self._closed.wait(every):
            # Others, who append to the same database, may have died before they published.
            if not (self._appended.is_set() or failing or time.monotonic() - looked >= _IDLE):
                continue
            self._appended.clear()
            looked = time.monotonic()
            try:
                self.publish(PATIENCE)
                failing = False
            except DataLoss as error:
                _log.error("the log is refused; nothing is appended any more: %s", error)
                return
            except OuzelError as error:
                _log.log(logging.DEBUG if failing else logging.WARNING, "the log is not published: %s", error)
                failing = True
            except Exception:  # noqa: BLE001 - the thread must go on
                _log.exception("the log is not published")
                failing = True
