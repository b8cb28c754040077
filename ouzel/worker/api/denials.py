"""Calls without a known token, as entries of the log: one a second at most, however many there are.

Whoever has no token must not be able to fill the log, nor to make the worker wait for its disk. So these calls are
denied at once, counted, and recorded as a number soon after.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from ouzel.errors import OuzelError
from ouzel.ledger.recorder import Event, Recorder

_log = logging.getLogger(__name__)
_PAUSE = 1.0  # s between two entries
_METHODS = 20  # that an entry names; callers may invent more


class Denials:
    """Counts denied calls.

    Args:
        recorder: Records how many there were.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder, self._counts = recorder, Counter[str]()

    def count(self, method: str) -> None:
        """Counts a call.

        Args:
            method: "/package.Service/Method", as the caller sent it.
        """
        known = method if method in self._counts or len(self._counts) < _METHODS else "others"
        self._counts[known[:200]] += 1

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
            self._recorder.append(Event("refusal", {"code": "UNAUTHENTICATED", "calls": _texts(counts)}))
        except OuzelError as error:
            _log.warning("denied calls are not recorded yet: %s", error)
            self._counts.update(counts)


def _texts(counts: Counter[str]) -> dict[str, int]:
    return {method.encode("ascii", "backslashreplace").decode(): count for method, count in sorted(counts.items())}
