"""Spans of phases that follow each other, of which only the beginnings are told."""

from __future__ import annotations

import threading
import time

from ouzel.telemetry import tracing


class Phases:
    """The phases of some work, below the span in which this is made; each ends where the next one begins.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._name, self._begun = "", 0
        self._parent = tracing.carried()
        self._lock = threading.Lock()

    def enter(self, name: str) -> None:
        """Begins a phase, if it is another one than the present. name: in a word; "" is none."""
        if not self._parent:
            return
        with self._lock:
            if name != self._name:
                self._end()
                self._name, self._begun = name, time.time_ns()

    def close(self) -> None:
        """Ends the present phase."""
        with self._lock:
            self._end()
            self._name = ""

    def _end(self) -> None:
        if self._name:
            tracing.finished(self._name, parent=self._parent, begun=self._begun, ended=time.time_ns())
