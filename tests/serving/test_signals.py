"""The signals that end a command become one exception."""

from __future__ import annotations

import signal

import pytest

from ouzel.serving import Stopped, stop_on_signals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_is_raised_and_later_ones_are_ignored(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with stop_on_signals():
        with pytest.raises(Stopped) as caught:
            signal.raise_signal(signum)
        signal.raise_signal(signum)
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.signum == signum
    assert signal.getsignal(signum) is before


def test_what_is_ignored_already_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
