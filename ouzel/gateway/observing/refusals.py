"""Refused calls on record: counted here, and in the log a little later, however many there are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from pathlib import Path

from ouzel.errors import OuzelError
from ouzel.ledger.denials import Denials
from ouzel.ledger.recorder import Event, Recorder

_log = logging.getLogger(__name__)
_PAUSE = 5.0  # s between two entries


class Refusals:
    """Counts refused calls, and records how many there were. No call waits for that.

    Args:
        find: The folder of the log; None while there is none. The worker may begin it later than the gateway starts.
        methods: Those that an entry names: paths of gRPC, and "POST /path". What callers invent is "others".
    """

    def __init__(self, find: Callable[[], Path | None], methods: Collection[str]) -> None:
        self._find = find
        self._recorder: Recorder | None = None
        self._denials = Denials(self, methods)

    def count(self, method: str, code: str) -> None:
        """Counts a call.

        Args:
            method: What was called.
            code: Of the refusal.
        """
        self._denials.count(method, code)

    def append(self, event: Event) -> object:
        """Records an event durably. See `Recorder`."""
        if self._recorder is None:
            self._recorder = Recorder(self._find())
        return self._recorder.append(event)

    async def keep_recording(self) -> None:
        """Records the counts until it is cancelled."""
        while True:
            await asyncio.sleep(_PAUSE)
            await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        """Records the counts so far, if there is a log; else they are kept."""
        try:
            if self._recorder is not None or self._find() is not None:
                self._denials.flush()
        except (OuzelError, OSError) as error:
            _log.warning("refused calls are not recorded yet: %s", error)

    def close(self) -> None:
        """Records the rest, and closes the log."""
        self.flush()
        if self._recorder is not None:
            self._recorder.close()
