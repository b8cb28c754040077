"""Questions to processes of their own."""

from __future__ import annotations

import threading

from ouzel.worker import isolated
from support.jobs import until

SLEEP = ("timeit", "-n", "1", "-r", "1", "import time; time.sleep(60)")


def test_what_is_printed_is_the_answer() -> None:
    assert isolated.ask("timeit", "-n", "1", "-r", "1", "pass", seconds=60).startswith(b"1 loop")


def test_one_who_takes_too_long_says_nothing() -> None:
    assert isolated.ask(*SLEEP, seconds=0.5) == b""


def test_all_can_be_ended_while_somebody_waits() -> None:
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(isolated.ask(*SLEEP, seconds=50)))
    thread.start()
    until(lambda: bool(isolated._asked))
    isolated.end_all()
    thread.join(20)
    assert answers == [b""]
    assert not isolated._asked
