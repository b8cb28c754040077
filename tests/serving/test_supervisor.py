"""Keeping parts up: with parts that are no more than a table, so that time runs fast."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ouzel.serving import StartFailed
from ouzel.serving.supervision import journal
from ouzel.serving.supervision.journal import Restarts, Supervision
from ouzel.serving.supervision.supervisor import Keeper, Part, Patience, supervising
from ouzel_protos.local import SUPERVISOR

FAST = Patience(look=0.01, ask=0.01, answer=0.01, hung_after=0.2, busy=1000, longest=0.04, healthy=60)


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@dataclass
class Fake:
    """A part whose process is a number."""

    pid: int | None = 1
    answer: str = ""
    failures: int = 0
    starts: list[float] = field(default_factory=list)

    def start(self, tell: Callable[[str], None]) -> None:
        tell(f"try {len(self.starts) + 1}")
        self.starts.append(time.monotonic())
        if len(self.starts) <= self.failures:
            raise StartFailed("no\nroom")
        self.pid, self.answer = 1000 + len(self.starts), ""

    @property
    def part(self) -> Part:
        return Part("part", lambda: self.pid, lambda timeout: self.answer, self.start)


@pytest.fixture
def kept() -> Iterator[Callable[[Fake, Patience], Keeper]]:
    started: list[Keeper] = []

    def keep(fake: Fake, patience: Patience = FAST) -> Keeper:
        started.append(Keeper(fake.part, patience))
        started[-1].thread.start()
        return started[-1]

    yield keep
    for each in started:
        each.stop()
        each.thread.join(5)
        assert not each.thread.is_alive()


def test_pauses_double_up_to_a_limit() -> None:
    patience = Patience(longest=60)
    assert [patience.pause(tries) for tries in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert patience.pause(10**6) == 60


def test_what_died_is_started_once(kept) -> None:
    fake = Fake()
    keeper = kept(fake)
    time.sleep(0.1)
    assert (fake.starts, keeper.record) == ([], Restarts())
    fake.pid = None
    until(lambda: keeper.record.restarts == 1)
    assert (len(fake.starts), fake.pid, keeper.record.reason) == (1, 1001, "part was not running")
    assert keeper.record.progress == "try 1"
    assert abs(keeper.record.last - time.time()) < 5
    assert (keeper.record.trouble, keeper.record.starting) == ("", False)


def test_it_never_gives_up_and_says_why(kept) -> None:
    fake = Fake(pid=None, failures=6)
    keeper = kept(fake)
    until(lambda: len(fake.starts) >= 3)
    assert (keeper.record.trouble, keeper.record.restarts) == ("no room", 0)
    until(lambda: keeper.record.restarts == 1)
    assert (len(fake.starts), keeper.record.trouble) == (7, "")


def test_a_nudge_ends_the_pause(kept) -> None:
    fake = Fake(pid=None, failures=1)
    keeper = kept(fake, Patience(look=0.01, longest=1000))
    until(lambda: keeper.record.trouble != "")
    keeper.nudge()
    until(lambda: keeper.record.restarts == 1, 0.9)  # the pause would be of a second


def test_pauses_begin_anew_after_a_healthy_time(kept) -> None:
    fake = Fake()
    keeper = kept(fake, Patience(look=0.01, ask=0.01, longest=1000, healthy=0.1))
    for count in range(1, 6):  # with pauses that grow this would take 15 s
        fake.pid = None
        until(lambda count=count: keeper.record.restarts == count, 2)
        time.sleep(0.2)


def test_what_does_not_answer_for_long_is_started_again(kept) -> None:
    fake = Fake(pid=os.getppid())
    keeper = kept(fake)
    for _ in range(4):  # short silences are forgiven
        fake.answer = "silent"
        time.sleep(0.08)
        fake.answer = ""
        time.sleep(0.08)
    assert fake.starts == []
    fake.answer = "silent"
    until(lambda: keeper.record.restarts == 1)
    assert "has not answered for" in keeper.record.reason
    assert "(silent)" in keeper.record.reason


def test_what_computes_is_not_taken_for_hung(kept) -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as computing:
        try:
            fake = Fake(pid=computing.pid, answer="silent")
            keeper = kept(fake, Patience(look=0.05, ask=0.3, answer=0.1, hung_after=1.2, busy=1000))
            time.sleep(3)
            assert fake.starts == []
            os.kill(computing.pid, signal.SIGSTOP)
            until(lambda: keeper.record.restarts == 1)
        finally:
            computing.kill()


def test_the_record_tells_others(tmp_path: Path) -> None:
    fake = Fake()
    assert journal.read(tmp_path) is None
    with supervising(tmp_path, [fake.part], FAST):
        record = journal.read(tmp_path)
        assert record is not None
        assert (record.pid, record.alive, record.parts) == (os.getpid(), True, {"part": Restarts()})
        fake.pid, fake.failures = None, 1
        until(lambda: journal.read(tmp_path).parts["part"].restarts == 1)  # type: ignore[union-attr]
        assert signal.getsignal(journal.NUDGE) not in (signal.SIG_DFL, None)
    assert journal.read(tmp_path) is None
    assert not any(thread.name.startswith("keeper") for thread in threading.enumerate())


def test_a_record_whose_process_is_gone(tmp_path: Path) -> None:
    journal.write(tmp_path, Supervision(os.getpid(), 1.0, 60.0, {}))
    record = journal.read(tmp_path)
    assert record is not None
    assert not record.alive
    assert not journal.end(tmp_path)
    (tmp_path / SUPERVISOR).write_text("{}")
    assert journal.read(tmp_path) is None
