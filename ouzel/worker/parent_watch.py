"""Processes that end when the one that started them does, however that ends.

The parent holds the other end of the process's standard input and never writes to it. When it closes, the parent is
gone, or no longer waits for the process.
"""

from __future__ import annotations

import os
import stat
import sys
import threading


def end_with_parent() -> None:
    """Call it first in such a process. Does nothing where the input is no pipe: somebody runs it by hand."""
    if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        return

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
