"""Processes that are forked for one that asks: what they are given, how they end, and what becomes of a lost server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from ouzel.forking import child, client
from ouzel.forking.client import Forked, ForkServer, ServerLost
from ouzel.worker import kinds
from support.jobs import TESTS, until

pytestmark = pytest.mark.skipif(not child.supported(), reason="processes are forked on Linux only")
TELLS = "support.forked.tells"


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("OTHER", "of the server")


@pytest.fixture
def forks() -> Iterator[ForkServer]:
    with closing(ForkServer(["no_such_module", "colorsys"])) as server:
        until(server.warm)
        yield server


def fork(forks: ForkServer, log: Path, *words: str, module: str = TELLS, **variables: str) -> Forked:
    environment = {key: value for key, value in os.environ.items() if key != "OTHER"} | variables
    with log.open("wb") as output:
        forked = forks.fork(module, *words, environment=environment, stdout=output.fileno(), stderr=output.fileno())
    assert forked is not None
    return forked


def told(log: Path) -> dict[str, Any]:
    until(lambda: log.read_text().endswith("said\n"))
    answer: dict[str, Any] = json.loads(log.read_text().splitlines()[0])
    return answer


def code(forked: Forked) -> int:
    deadline = time.monotonic() + 30
    while (status := forked.code()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return status


def server_of(forked: Forked) -> psutil.Process:
    parent = psutil.Process(forked.pid).parent()
    assert parent is not None
    assert parent.name() == "ouzel-forks"
    return parent


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_process_is_what_an_interpreter_would_have_made_it(forks: ForkServer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    forked = fork(forks, log, "end", "7", GIVEN="é and \n", OMP_NUM_THREADS="3")
    assert code(forked) == 7
    answer = told(log)
    expected = {
        "pid": forked.pid,
        "group": forked.pid,
        "session": forked.pid,
        "words": ["end", "7"],
        "folder": os.getcwd(),
        "given": "é and \n",
        "other": None,
        "imported": True,  # before it began
        "threads": [1, 0],
        "path": str(TESTS),
    }
    assert {key: answer[key] for key in expected} == expected
    assert answer["files"] == ["0", "1", "2"]
    assert log.read_text().splitlines()[1:] == ["said"]


def test_it_shows_what_it_runs(forks: ForkServer, tmp_path: Path) -> None:
    forked = fork(forks, tmp_path / "log", "sleep")
    told(tmp_path / "log")
    process = psutil.Process(forked.pid)
    assert process.name() == "tells"
    assert [word for word in process.cmdline() if word] == [sys.executable, "-m", TELLS, "sleep"]
    process.kill()
    assert code(forked) == -signal.SIGKILL


@pytest.mark.parametrize(("words", "status"), [(("raise",), 1), (("end", "0"), 0)])
def test_how_it_ends_is_known(forks: ForkServer, tmp_path: Path, words: tuple[str, ...], status: int) -> None:
    forked = fork(forks, tmp_path / "log", *words)
    assert code(forked) == status
    forked.kill()  # its id may be another's by now: no effect
    assert forked.code() == status
    assert ("RuntimeError: on purpose" in (tmp_path / "log").read_text()) == bool(status)


@pytest.mark.parametrize(("word", "status", "said"), [("3", 3, ""), ("0", 0, ""), ("words", 1, "words")])
def test_what_is_left_for_the_end_is_done(forks: ForkServer, tmp_path: Path, word: str, status: int, said: str) -> None:
    forked = fork(forks, tmp_path / "log", word, module="support.forked.last_words")
    assert code(forked) == status
    lines = (tmp_path / "log").read_text().splitlines()
    assert [each for each in lines if each != said] == ["main", "thread", "registered"]
    assert (said in lines) == bool(said)


def test_one_that_is_asked_to_stop_before_it_can_be_stops(forks: ForkServer, tmp_path: Path) -> None:
    for _ in range(20):
        forked = fork(forks, tmp_path / "log", "sleep")
        os.kill(forked.pid, signal.SIGTERM)  # while it is still being made
        assert code(forked) == -signal.SIGTERM


def test_the_server_stays_when_all_are_asked_to_stop(forks: ForkServer, tmp_path: Path) -> None:
    forked = fork(forks, tmp_path / "log", "sleep")
    server_of(forked).terminate()
    os.kill(forked.pid, signal.SIGKILL)
    assert code(forked) == -signal.SIGKILL
    assert code(fork(forks, tmp_path / "log")) == 0


def test_those_of_a_killed_server_go_on_and_another_is_started(
    forks: ForkServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forked = fork(forks, tmp_path / "log", "sleep")
    told(tmp_path / "log")
    server_of(forked).kill()
    with pytest.raises(ServerLost):
        forked.code()
    assert psutil.Process(forked.pid).status() != psutil.STATUS_ZOMBIE
    log = tmp_path / "second"
    with log.open("wb") as output:
        assert forks.fork(TELLS, environment=os.environ, stdout=output.fileno(), stderr=output.fileno()) is None
    assert "was lost; another is started" in caplog.text
    until(forks.warm)
    assert code(fork(forks, log)) == 0
    os.kill(forked.pid, signal.SIGKILL)


def test_a_server_that_does_not_answer_is_given_up(
    forks: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_PATIENCE", 0.3)
    with closing(ForkServer([])) as forks:
        until(forks.warm)
        first = fork(forks, tmp_path / "log", "sleep")
        server = server_of(first)
        server.suspend()
        with pytest.raises(ServerLost) as lost:  # and not None: there might be a process
            fork(forks, tmp_path / "log")
        assert isinstance(lost.value.__cause__, TimeoutError)
        assert gone(server)
        until(forks.warm)
        assert code(fork(forks, tmp_path / "log")) == 0
        os.kill(first.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("module", "reason"),
    [("support.forked.starts_a_thread", "it has 2 threads"), ("support.forked.ends", "ended 3 times before")],
)
def test_where_nothing_can_be_forked_this_is_said_once(
    module: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(ForkServer([module])) as forks:
        until(lambda: forks.warm() or reason in caplog.text)
        for _ in range(3):
            assert forks.fork(TELLS, environment=os.environ, stdout=1, stderr=2) is None
    assert caplog.text.count("started one by one") == 1


def test_what_cannot_be_started_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    forks = ForkServer([])
    assert not forks.warm()
    assert "cannot be started" in caplog.text
    assert not forks.wait(60)


def test_nothing_is_forked_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    forks = ForkServer([])
    assert not forks.warm()
    assert forks.fork(TELLS, environment=os.environ, stdout=1, stderr=2) is None


_STARTER = """
import sys, time
from ouzel.forking.client import ForkServer
forks = ForkServer(sys.argv[1:])
forks.warm()
print(forks._server._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("modules", [(), ("support.forked.takes_a_minute",)], ids=["warm", "importing"])
def test_the_server_ends_with_who_started_it(modules: tuple[str, ...]) -> None:
    starter = subprocess.Popen([sys.executable, "-c", _STARTER, *modules], stdout=subprocess.PIPE, text=True)
    assert starter.stdout
    server = psutil.Process(int(starter.stdout.readline()))
    until(lambda: server.name() == "ouzel-forks")
    time.sleep(0.3)  # it waits for requests now, or imports
    starter.kill()
    starter.communicate()
    until(lambda: gone(server), 5)


def test_what_jobs_are_forked_from_has_one_thread_and_no_gpu_nor_grpc(tmp_path: Path) -> None:
    """With the libraries of the real kinds: torch and all."""
    with closing(ForkServer(kinds.libraries())) as forks:
        until(forks.warm, 120)
        forked = fork(forks, tmp_path / "log", "sleep", OMP_NUM_THREADS="3")
        assert len(os.listdir(f"/proc/{server_of(forked).pid}/task")) == 1
        answer = told(tmp_path / "log")
        psutil.Process(forked.pid).kill()
        assert code(forked) == -signal.SIGKILL
        assert code(fork(forks, tmp_path / "second")) == 0
        assert told(tmp_path / "second")["drawn"] != answer["drawn"]
        assert (tmp_path / "second").read_text().splitlines()[1:] == ["said"]  # also at the end of torch
    assert {"torch", "timm", "ouzel.maximize", "ouzel.finetune", "ouzel.saliency"} <= set(answer["loaded"])
    assert "grpc" not in answer["loaded"]
    assert answer["cuda"] == [False, False]
    assert answer["threads"] == [1, 3]


def test_a_process_that_has_used_a_gpu_must_not_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listdir", lambda _: ["0"])
    monkeypatch.setattr(os, "readlink", lambda _: "/dev/null")
    assert child.unfit() == ""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert child.unfit() == "it has initialised CUDA"
    monkeypatch.setattr(os, "readlink", lambda _: "/dev/nvidiactl")
    assert child.unfit() == "it has /dev/nvidiactl open"
