"""Spans of phases that follow each other, of which only the beginnings are told."""

from __future__ import annotations

import time

from ouzel.telemetry import tracing


class Phases:
    """The phases of some work within the current span; one ends where the next one begins."""

    def __init__(self) -> None:
        self._name, self._begun = "", 0
        self._parent: dict[str, str] = {}

    def enter(self, name: str) -> None:
        """Begins a phase, if it is another one than the present. name: in a word; "" is none."""
        if not tracing.on() or name == self._name:
            return
        self.close()
        self._name, self._begun, self._parent = name, time.time_ns(), tracing.carried()

    def close(self) -> None:
        """Ends the present phase."""
        if self._name:
            tracing.finished(self._name, parent=self._parent, begun=self._begun, ended=time.time_ns())
        self._name = ""
