"""Processes that end with a benchmark, however it ends, and with all that they have started.

A benchmark may be killed, and services detach themselves from who starts them. So each process that is started within
`all_ended` carries a mark in its environment, which its own children inherit, and a watcher, which lives in a session
of its own, ends all that carry it once the benchmark has let go of its end of a pipe: when it is done, or dead.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import psutil

VARIABLE = "OUZEL_BENCHMARK"


@contextlib.contextmanager
def all_ended() -> Iterator[dict[str, str]]:
    """Yields the environment for processes that are to end with this context, or with this process."""
    mark = uuid.uuid4().hex
    watcher = subprocess.Popen([sys.executable, __file__, mark], stdin=subprocess.PIPE, start_new_session=True)
    assert watcher.stdin is not None
    try:
        yield os.environ | {VARIABLE: mark}
    finally:
        watcher.stdin.close()
        watcher.wait()


def end(mark: str) -> None:
    """Ends whatever carries the mark, until there is nothing left: a process may start another meanwhile."""
    while found := [process for process in psutil.process_iter() if _carries(process, mark)]:
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=10)


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(VARIABLE) == mark
    except (psutil.Error, OSError):
        return False


if __name__ == "__main__":
    sys.stdin.buffer.read()
    end(sys.argv[1])
