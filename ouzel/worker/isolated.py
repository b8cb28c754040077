"""Asks a process of its own for what needs torch, which this process must not load."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import threading

_log = logging.getLogger(__name__)
_asked: set[subprocess.Popen[bytes]] = set()  # that have not answered yet


def ask(module: str, *arguments: str, seconds: float) -> bytes:
    """Runs `python -m MODULE ARGUMENTS...`.

    The module ends with its input, by `parent_watch.end_with_parent`.

    Args:
        module: The module.
        arguments: Of its command line.
        seconds: How long it may take.

    Returns:
        What it prints; b"" if it fails or takes too long, and then the log says more.
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
    """Ends all processes that have not answered yet; those who wait get b"" at once."""
    for process in tuple(_asked):
        process.kill()
