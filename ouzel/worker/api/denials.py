"""Calls without a known token, as entries of the log: one in five seconds at most, however many there are.

Whoever has no token must not be able to fill the log, nor to make the worker wait for its disk. So these calls are
denied at once, counted, and recorded as a number soon after.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection

from ouzel.errors import OuzelError
from ouzel.ledger.recorder import Event, Recorder

_log = logging.getLogger(__name__)
_PAUSE = 5.0  # s between two entries


class Denials:
    """Counts denied calls.

    Args:
        recorder: Records how many there were.
        methods: "/package.Service/Method", those that an entry names; what else callers invent is "others".
    """

    def __init__(self, recorder: Recorder, methods: Collection[str]) -> None:
        self._recorder, self._methods, self._counts = recorder, methods, Counter[str]()

    def count(self, method: str) -> None:
        """Counts a call.

        Args:
            method: As the caller sent it.
        """
        self._counts[method if method in self._methods else "others"] += 1

    async def keep_recording(self) -> None:
        """Records the counts until it is cancelled."""
        while True:
            await asyncio.sleep(_PAUSE)
            await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        """Records the counts so far. What cannot be recorded now is recorded later."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            self._recorder.append(Event("refusal", {"code": "UNAUTHENTICATED", "calls": dict(counts)}))
        except OuzelError as error:
            _log.warning("denied calls are not recorded yet: %s", error)
            self._counts.update(counts)
