"""Refusals that are counted, and become entries of the log a little later: one in five seconds, however many there are.

Whoever has no token, or asks again and again for what is not there, must not be able to fill the log, nor to make a
service wait for its disk.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections import Counter
from collections.abc import Collection
from typing import Protocol

from ouzel.errors import OuzelError
from ouzel.ledger.recorder import Event

_log = logging.getLogger(__name__)
_PAUSE = 5.0  # s between two entries


class Appends(Protocol):
    """Records events: `Recorder` does."""

    def append(self, event: Event) -> object:
        """Records an event durably. Raises OuzelError."""


class Denials:
    """Counts refused calls that asked for no change.

    Args:
        recorder: Records how many there were.
        methods: "/package.Service/Method", those that an entry names; what else callers invent is "others".
    """

    def __init__(self, recorder: Appends, methods: Collection[str]) -> None:
        self._recorder, self._methods = recorder, methods
        self._counts = Counter[tuple[str, str]]()
        self._pending: Event | None = None  # whose entry is not known to be there
        self._lock = threading.Lock()

    def count(self, method: str, code: str = "UNAUTHENTICATED") -> None:
        """Counts a call.

        Args:
            method: As the caller sent it.
            code: Of the refusal.
        """
        with self._lock:
            self._counts[code, method if method in self._methods else "others"] += 1

    async def keep_recording(self) -> None:
        """Records the counts until it is cancelled."""
        while True:
            await asyncio.sleep(_PAUSE)
            await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        """Records the counts so far. What cannot be recorded now is tried again, under the same key."""
        with self._lock:
            if self._pending is None:
                counts, self._counts = self._counts, Counter()
                if not counts:
                    return
                calls: dict[str, dict[str, int]] = {}
                for (code, method), count in sorted(counts.items()):
                    calls.setdefault(code, {})[method] = count
                self._pending = Event("refusal", {"calls": calls}, key=f"denials:{uuid.uuid4().hex}")
            pending = self._pending
        try:
            self._recorder.append(pending)
        except OuzelError as error:
            _log.warning("refused calls are not recorded yet: %s", error)
            return
        with self._lock:
            self._pending = None
