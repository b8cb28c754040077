"""Leaves work for the end of the process: a thread, what was registered, and output that has not been written."""

from __future__ import annotations

import atexit
import sys
import threading


def main() -> int:
    ended = threading.Event()
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - buffered, unlike that of forked processes
    atexit.register(print, "registered")

    def wait() -> None:
        ended.wait()
        print("thread")

    threading.Thread(target=wait).start()
    print("main")
    ended.set()
    sys.exit(sys.argv[1] if sys.argv[1] == "words" else int(sys.argv[1]))
