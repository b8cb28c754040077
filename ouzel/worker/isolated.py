"""A question to a process of its own, for what this one must not load: torch."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import threading

_log = logging.getLogger(__name__)
_asked: set[subprocess.Popen[bytes]] = set()  # that have not answered yet


def ask(module: str, *arguments: str, seconds: float) -> bytes:
    """What `python -m module arguments...` prints; nothing if it fails or takes too long, and then the log says more.

    The module ends with its input, by `parent_watch.end_with_parent`.
    """
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdin=pipe, stdout=pipe, stderr=errors)
        _asked.add(process)
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            assert process.stdout
            printed = process.stdout.read()
        finally:
            timer.cancel()
            process.kill()
            process.communicate()
            _asked.discard(process)
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if not printed:
        _log.error("%s %s\n%s", module, " ".join(arguments), said[-4000:])
    return printed


def end_all() -> None:
    """Nobody waits for answers any more: those who ask get nothing, at once."""
    for process in tuple(_asked):
        process.kill()
