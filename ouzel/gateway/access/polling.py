"""A thread that looks again and again whether something outside has changed: files, databases, issuers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from ouzel.errors import OuzelError

_log = logging.getLogger(__name__)


class Polling:
    """Calls functions in turn, about every `period` seconds.

    Errors go to the log, once as long as the same one comes again, and end nothing.

    Args:
        looks: What is called. They may be called while callers use what they renew.
        period: Seconds from the end of one round to the next.
    """

    def __init__(self, looks: Sequence[Callable[[], None]], period: float = 0.5) -> None:
        self._looks, self._period = looks, period
        self._told = [""] * len(looks)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-polling", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends it, after what is under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """One round, in the thread of the caller."""
        for number, each in enumerate(self._looks):
            try:
                each()
                self._told[number] = ""
            except (OuzelError, OSError) as error:
                self._tell(number, str(error))
            except Exception as error:  # noqa: BLE001 - the door stays open for those who are known
                self._tell(number, repr(error), bug=True)

    def _tell(self, number: int, text: str, *, bug: bool = False) -> None:
        if text != self._told[number]:
            self._told[number] = text
            _log.error("%s", text, exc_info=bug)

    def _run(self) -> None:
        while not self._stop.wait(self._period):
            self.look()
