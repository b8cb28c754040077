"""Questions to processes of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from ouzel.forking.client import ForkServer
from ouzel.worker.isolated import Isolated
from support.jobs import until

SLEEP = ("timeit", "-n", "1", "-r", "1", "import time; time.sleep(60)")


@pytest.fixture(params=["spawned", "forked"])
def isolated(request: pytest.FixtureRequest) -> Iterator[Isolated]:
    if request.param == "spawned":
        yield Isolated()
        return
    with closing(ForkServer([])) as forks:
        yield Isolated(forks)


def test_what_is_printed_is_the_answer(isolated: Isolated) -> None:
    assert isolated.ask("timeit", "-n", "1", "-r", "1", "pass", seconds=60).startswith(b"1 loop")


def test_one_who_takes_too_long_says_nothing(isolated: Isolated) -> None:
    assert isolated.ask(*SLEEP, seconds=0.5) == b""


def test_what_it_says_instead_is_logged(isolated: Isolated, caplog: pytest.LogCaptureFixture) -> None:
    assert isolated.ask("timeit", "no_such_name", seconds=60) == b""
    assert "NameError" in caplog.text


def test_all_can_be_ended_while_somebody_waits(isolated: Isolated) -> None:
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(isolated.ask(*SLEEP, seconds=50)))
    thread.start()
    until(lambda: bool(isolated._asked))
    isolated.end_all()
    thread.join(20)
    assert answers == [b""]
    assert not isolated._asked
