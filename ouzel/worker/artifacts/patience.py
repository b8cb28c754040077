"""Waiting for a storage that is away, where what was computed would be lost otherwise."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ouzel.worker.artifacts.protocol import StorageAway

T = TypeVar("T")
_log = logging.getLogger(__name__)
SECONDS = 300.0  # less than the watchdog waits for an event
_PAUSE = 1.0  # s


def patiently(do: Callable[[], T], stop: threading.Event, seconds: float = SECONDS) -> T:
    """Does something with files, again and again while their storage is away.

    Args:
        do: May be done several times.
        stop: Set when nobody waits for it any longer.
        seconds: After which it is given up.

    Returns:
        What `do` gives.

    Raises:
        StorageAway: The storage was away for all this time, or is and `stop` was set.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return do()
        except StorageAway:
            if time.monotonic() >= end or stop.wait(_PAUSE):
                raise
            _log.warning("the storage is away; waiting for it")
