"""Asks a process of its own for what needs torch, which this process must not load."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import IO

from ouzel.forking.client import Forked, ForkServer, ServerLost

_log = logging.getLogger(__name__)
_WARMING = 60.0  # s to wait for the process that forks, which imports what one that is started now would import


class Isolated:
    """Asks processes of their own.

    Args:
        forks: Has them forked; None starts each anew.
    """

    def __init__(self, forks: ForkServer | None = None) -> None:
        self._forks = forks
        self._asked: set[subprocess.Popen[bytes] | Forked] = set()  # that have not answered yet

    def ask(self, module: str, *arguments: str, seconds: float) -> bytes:
        """Runs `python -m MODULE ARGUMENTS...`.

        The module has a function `main`, and ends with its input, by `parent_watch.end_with_parent`.

        Args:
            module: The module.
            arguments: Of its command line.
            seconds: How long it may take.

        Returns:
            What it prints; b"" if it fails or takes too long, and then the log says more.
        """
        with tempfile.TemporaryFile() as errors:
            process, output = self._started(module, arguments, errors)
            self._asked.add(process)
            timer = threading.Timer(seconds, process.kill)
            timer.start()
            try:
                with output:
                    printed = output.read()
            finally:
                timer.cancel()
                self._asked.discard(process)
                process.kill()
                process.wait()
                if process.stdin:
                    process.stdin.close()
            errors.seek(0)
            said = errors.read().decode(errors="replace")
        if not printed:
            _log.error("%s %s\n%s", module, " ".join(arguments), said[-4000:])
        return printed

    def end_all(self) -> None:
        """Ends all processes that have not answered yet; those who wait get b"" at once."""
        for process in tuple(self._asked):
            process.kill()

    def _started(
        self, module: str, arguments: tuple[str, ...], errors: IO[bytes]
    ) -> tuple[subprocess.Popen[bytes] | Forked, IO[bytes]]:
        """A process, and what it prints."""
        if (forked := self._forked(module, arguments, errors)) is not None:
            return forked
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdin=pipe, stdout=pipe, stderr=errors)
        assert process.stdout
        return process, process.stdout

    def _forked(self, module: str, arguments: tuple[str, ...], errors: IO[bytes]) -> tuple[Forked, IO[bytes]] | None:
        if self._forks is None or not self._forks.wait(_WARMING):
            return None
        reading, writing = os.pipe()
        output, forked = os.fdopen(reading, "rb"), None
        with suppress(ServerLost):  # one that exists nevertheless ends with its input
            forked = self._forks.fork(
                module, *arguments, environment=os.environ, stdout=writing, stderr=errors.fileno()
            )
        os.close(writing)
        if forked is None:
            output.close()
            return None
        return forked, output
