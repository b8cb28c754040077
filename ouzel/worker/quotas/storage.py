"""Bytes of owners: what they have stored, and what is on its way. Only owners with a quota of bytes are looked at."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from ouzel.errors import ResourceExhausted, Unavailable
from ouzel.worker.store.accounts import AccountStore
from ouzel.worker.store.limits import EachLimits, Limits

_log = logging.getLogger(__name__)
_FRESH = 20.0  # s for which files are not counted again, if there is room; less than reservations are kept for
_RENEW = 30.0  # s between two renewals


@dataclass(frozen=True)
class _Seen:
    """Bytes that were stored at a time of the store's clock."""

    bytes: int
    clock: float
    at: float  # monotonic, of this process


class Storage:
    """What owners have stored.

    Args:
        store: Knows the artifacts, and keeps reservations.
        datasets: Bytes of an owner's data sets.
        limits: Of each owner.
    """

    def __init__(self, store: AccountStore, datasets: Callable[[str], int], limits: EachLimits | None = None) -> None:
        self.store, self.datasets, self._limits = store, datasets, limits or Limits()
        self._seen: dict[str, _Seen] = {}
        self._lock = threading.Lock()

    def hold(self, owner: str) -> Hold | None:
        """What reserves bytes for one stream; None for an owner without a quota of bytes."""
        limit = self._limits.of(owner).stored_bytes
        return None if limit is None else Hold(self, owner, limit)

    def refusal(self, owner: str) -> ResourceExhausted | None:
        """Why there can be no new job; None if there is room for what it leaves behind."""
        limit = self._limits.of(owner).stored_bytes
        if limit is None or self.seen(owner).bytes + self.store.reserved(owner) < limit:
            return None
        used = self.seen(owner, anew=True).bytes + self.store.reserved(owner)
        return None if used < limit else _full(used, limit)

    def seen(self, owner: str, *, anew: bool = False) -> _Seen:
        """What is stored, as it was some seconds ago at most. anew: as it is now."""
        with self._lock:
            known = self._seen.get(owner)
        if anew or known is None or time.monotonic() - known.at >= _FRESH:
            at, clock = time.monotonic(), self.store.clock()
            known = _Seen(self.datasets(owner) + self.store.artifact_bytes_of(owner), clock, at)
            with self._lock:
                self._seen[owner] = known
        return known


class Hold:
    """The reservation of the file that a stream brings. One thread at a time.

    Args:
        storage: Of all owners.
        owner: Whose.
        limit: Of the owner's bytes.
    """

    def __init__(self, storage: Storage, owner: str, limit: int) -> None:
        self._storage, self._owner, self._limit = storage, owner, limit
        self._name, self._size, self._renewed = "", 0, 0.0

    def take(self, size: int) -> None:
        """Reserves the bytes of the next file. Raises ResourceExhausted."""
        name = uuid.uuid4().hex
        for anew in (False, True):  # what was counted a while ago refuses nobody
            seen = self._storage.seen(self._owner, anew=anew)
            used = self._storage.store.reserve(
                self._owner, name, size, stored=seen.bytes, seen=seen.clock, limit=self._limit
            )
            if used is None:
                self._name, self._size, self._renewed = name, size, time.monotonic()
                return
        raise _full(used or 0, self._limit, size)

    def renew(self) -> None:
        """Keeps the reservation, if that is due."""
        if self._name and time.monotonic() - self._renewed >= _RENEW:
            self._storage.store.renew(self._owner, self._name, self._size)
            self._renewed = time.monotonic()

    def done(self) -> None:
        """Notes that the file is stored."""
        if self._name:
            self._storage.store.reservation_done(self._name)
            self._name = ""

    def release(self) -> None:
        """Ends the reservation, if the file is not stored."""
        if self._name:
            try:
                self._storage.store.release(self._name)
            except Unavailable as error:
                _log.warning("a reservation ends by itself in some minutes: %s", error)
            self._name = ""


def _full(used: int, limit: int, more: int = 0) -> ResourceExhausted:
    coming = f", and {more} bytes more do not fit" if more else ""
    return ResourceExhausted(f"stored_bytes: {used} bytes of {limit} bytes are used{coming}; delete data sets or jobs")
