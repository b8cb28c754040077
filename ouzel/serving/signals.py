"""Turns the signals that end a command into an exception, so that `with serving.start(...)` stops what it started."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """The process was asked to end; `signum` says by which signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Has the first SIGINT, SIGTERM or SIGHUP raise Stopped while the block runs; later ones are ignored.

    A signal that the process ignores already (as under nohup) stays ignored. To be used in the main thread.
    """
    caught = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]

    def handle(signum: int, frame: FrameType | None) -> None:
        for each in caught:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(signum)

    before = {each: signal.signal(each, handle) for each in caught}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
