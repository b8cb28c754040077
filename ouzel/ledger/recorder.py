"""What the services have recorded: an event becomes an entry before an answer leaves, or the answer is an error."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from ouzel.buckets import StorageRefused
from ouzel.errors import DataLoss, FailedPrecondition, InvalidArgument, OuzelError, Unavailable
from ouzel.ledger.ledger import Ledger, Receipt
from ouzel.ledger.opening import open_ledger
from ouzel.ledger.settings import settings
from ouzel.ledger.tlog.proof import Proof

T = TypeVar("T")
_CLOSING = 5.0  # s for publishing
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """What is to be recorded. The arguments of `Ledger.append`.

    Attributes:
        kind: One of `ouzel.ledger.KINDS`.
        facts: A JSON object without personal data.
        images: SHA-256 of images' bytes, in hex; salted in the entry.
        owner: Who asked; salted in the entry.
        salted: Other values by name; salted in the entry.
        key: Tells the event from others: with the same key it is recorded once.
    """

    kind: str
    facts: Mapping[str, Any]
    images: Sequence[str] = ()
    owner: str = ""
    salted: Mapping[str, str | Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))
    key: str = ""


@dataclass(frozen=True)
class Recorded:
    """An entry, and what proves it.

    Attributes:
        index: Its place in the log, from 0.
        entry: Its bytes.
        salt: The key of its salted hashes.
        proof: A C2SP tlog-proof.
    """

    index: int
    entry: bytes
    salt: bytes
    proof: str


class NotRecorded(FailedPrecondition):
    """The log takes no entries any more, so that nothing is done that it should hold."""


class Recorder:
    """Records events in the log of a folder, which is opened with the first of them. Threads may share it.

    Args:
        folder: See `ouzel.ledger.settings`; None keeps no log.
        ledger: The log, where it is open already. The caller closes it.
    """

    def __init__(self, folder: Path | None, ledger: Ledger | None = None) -> None:
        self._folder, self._ledger, self._own = folder, ledger, ledger is None
        self._opening = threading.Lock()

    @property
    def keeps(self) -> bool:
        """Whether there is a log."""
        return self._ledger is not None or self._folder is not None

    def append(self, event: Event) -> Receipt | None:
        """Records an event durably.

        Returns:
            The receipt; None without a log.

        Raises:
            NotRecorded: The log is refused or damaged. What the event is about must not happen.
            FailedPrecondition: No entry can hold the event, which must not happen.
            Unavailable: It is not known to be recorded, and what it is about must not happen.
        """
        return self._guarded(event, lambda ledger: _append(ledger, event))

    def proven(self, event: Event, timeout: float = 30.0) -> Recorded | None:
        """Records an event durably, and proves that.

        Args:
            event: The event.
            timeout: Seconds for publishing.

        Raises:
            OuzelError: As `append`; or the log could not be published.
        """

        def prove(ledger: Ledger) -> Recorded:
            receipt = _append(ledger, event)
            proof = ledger.prove(receipt, timeout)
            return Recorded(Proof.parse(proof).index, receipt.entry, receipt.salt, proof)

        return self._guarded(event, prove)

    def close(self) -> None:
        """Publishes what this has recorded, if that works, and closes the log; if this has opened it."""
        with self._opening:
            if self._own and self._ledger is not None:
                try:
                    self._ledger.publish(_CLOSING)
                except OuzelError as error:  # the entries are in the database: others publish them
                    _log.warning("the log is not published: %s", error)
                self._ledger.close()
                self._ledger = None

    def _guarded(self, event: Event, work: Callable[[Ledger], T]) -> T | None:
        """The outcome with the log. Callers hear that it failed, and the operator's log says why."""
        try:
            ledger = self._opened()
            return None if ledger is None else work(ledger)
        except OuzelError as error:
            _log.error("the %s could not be recorded: %s", event.kind, error)
            told = f"the {event.kind} could not be recorded, so it is not done"
            if isinstance(error, DataLoss | FailedPrecondition | StorageRefused):
                raise NotRecorded(f"{told}: the log is refused; its operator can see why") from error
            if isinstance(error, InvalidArgument):  # a figure that is not finite, say: not to be tried again
                raise FailedPrecondition(f"{told}: an entry cannot hold it") from error
            raise Unavailable(told) from error

    def _opened(self) -> Ledger | None:
        if self._ledger is None and self._folder is not None:
            with self._opening:
                if self._ledger is None:
                    # What is published is compared with the database when an entry is proven; opening takes no lock.
                    self._ledger = open_ledger(settings(self._folder), publish=False, check=False)
        return self._ledger


def _append(ledger: Ledger, event: Event) -> Receipt:
    return ledger.append(
        event.kind, event.facts, images=event.images, owner=event.owner, salted=event.salted, key=event.key
    )
