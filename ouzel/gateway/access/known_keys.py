"""The API keys as a gateway knows them: in memory, half a second behind the database."""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable

from ouzel.databases.database import Database
from ouzel.errors import OuzelError, Unauthenticated, Unavailable
from ouzel.gateway.access.api_keys import USED_STEP, ApiKey, changes_since, mark_used
from ouzel.gateway.access.key_text import digest, key_id

STALE = 60.0  # s without a word of the database, after which a revoked key could go on working for too long
_USED_EVERY = 60.0  # s between two writings of last uses


class KnownKeys:
    """Looks keys up without touching a disk.

    `refresh` reads what has changed, by the number of the last change: one row where nothing has. While the database
    does not answer, what is known goes on working for `stale` seconds.

    Args:
        database: Opened by `open_keys`. The caller closes it.
        stale: Seconds.
        clock: Seconds since the epoch.
        monotonic: Seconds that do not go back.

    Raises:
        Unavailable: The database does not answer.
    """

    def __init__(
        self,
        database: Database,
        *,
        stale: float = STALE,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._stale, self._clock, self._monotonic = database, stale, clock, monotonic
        self._keys: dict[str, ApiKey] = {}
        self._number = 0
        self._hours: dict[str, float] = {}  # of the last use, by key
        self._used: set[str] = set()  # whose hour is not in the database yet
        self._lock = threading.Lock()  # of the two
        self._wrote = monotonic()
        self._heard = monotonic()
        self.refresh()

    def find(self, text: str) -> ApiKey:
        """The key whose text this is.

        Raises:
            Unauthenticated: There is none; or it is over.
            Unavailable: What is known is too old.
        """
        id = key_id(text)
        if id is None:
            raise Unauthenticated("the API key has a typing error: its checksum does not fit")
        if self._monotonic() - self._heard > self._stale:
            raise Unavailable("API keys cannot be checked at the moment")
        key, given = self._keys.get(id), digest(text)
        # In constant time, for a key that there is not too: ids are no secrets, but nobody needs to learn them here.
        if not hmac.compare_digest(given, key.digest if key else bytes(32)) or key is None:
            raise Unauthenticated("the API key is not known here")
        now = self._clock()
        if (state := key.state(now)) != "active":
            raise Unauthenticated(f"the API key {id} is {state}")
        if self._hours.get(id) != (hour := now // USED_STEP):
            with self._lock:
                self._hours[id] = hour
                self._used.add(id)
        return key

    def refresh(self) -> None:
        """Reads what has changed, and writes now and then which keys were used. One thread calls it at a time.

        Raises:
            Unavailable: The database does not answer.
        """
        began = self._monotonic()
        last, changed = self._database.read(lambda c: changes_since(c, self._number))
        if last < self._number:  # an older copy of the database has taken its place
            last, changed = self._database.read(lambda c: changes_since(c, -1))
            self._keys = {}
        if changed:
            self._keys = self._keys | {each.id: each for each in changed}
        self._number, self._heard = last, began
        if self._used and began - self._wrote >= _USED_EVERY:
            self.write_used()

    def write_used(self) -> None:
        """Writes which keys were used, to the hour."""
        with self._lock:
            used, self._used = self._used, set()
        self._wrote, now = self._monotonic(), self._clock()
        if not used:
            return
        try:
            self._database.write(lambda c: mark_used(c, sorted(used), now))
        except OuzelError:
            with self._lock:
                self._used |= used
            raise
