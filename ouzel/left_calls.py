"""Calls whose callers have left, told to the model processes of this machine through empty files.

TorchServe has no way to say that nobody waits for an answer any more, and its processes would compute it to the end.
Each call has an id; a file of that name in a folder of the run says that its caller has left.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

_log = logging.getLogger(__name__)
FOLDER = "left"  # in the folder of the run
PART = "call"  # of a row: the id
_ID = re.compile(r"[0-9a-f]{16}")
_MOST = 4096  # files at a time


def new_id() -> str:
    """An id for a call."""
    return secrets.token_hex(8)


def gone(folder: Path, call: object) -> Callable[[], bool] | None:
    """What tells whether a caller has left; None if `call` is no id. One look takes microseconds."""
    text = call.decode("latin-1") if isinstance(call, (bytes, bytearray)) else call
    if not isinstance(text, str) or not _ID.fullmatch(text):
        return None
    path = str(folder / text)
    return lambda: os.path.exists(path)


class LeftCalls:
    """Tells of callers who have left. Of one thread."""

    def __init__(self) -> None:
        self._told: deque[tuple[float, Path]] = deque()  # (when nobody looks any more, file), nearly in order

    def tell(self, folder: Path, call: str, deadline: float) -> None:
        """The caller of a call has left, which would end at a deadline on the clock of `time.monotonic`."""
        self._forget(time.monotonic())
        if len(self._told) >= _MOST:
            return
        path = folder / call
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:  # what is computed ends by its deadline
            _log.info("%s cannot be written: %s", path, error)
            return
        self._told.append((deadline, path))

    def close(self) -> None:
        """Removes all files."""
        self._forget(float("inf"))

    def _forget(self, now: float) -> None:
        while self._told and self._told[0][0] <= now:
            self._told.popleft()[1].unlink(missing_ok=True)
