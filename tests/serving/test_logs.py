"""`ouzel logs`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ouzel.cli.logs import logs


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "torchserve.log.1").write_text("".join(f"old {n}\n" for n in range(100_000)))
    (tmp_path / "torchserve.log").write_text("new 0\nnew 1\n")
    (tmp_path / "worker.log").write_text("worker")
    folder = tmp_path / "jobs" / "logs"
    folder.mkdir(parents=True)
    for attempt in (2, 10):
        (folder / f"job-7-{attempt}.log").write_text(f"attempt {attempt}\n")
    (folder / "job-7-2-3.log").write_text("of another job\n")
    return tmp_path


def shown(state: Path, *words: str) -> Result:
    return CliRunner().invoke(logs, ["--state", str(state), *words])


def test_last_lines_go_back_into_the_run_before(state: Path) -> None:
    assert shown(state, "torchserve", "--lines", "4").output == "old 99998\nold 99999\nnew 0\nnew 1\n"
    assert shown(state, "torchserve", "--lines", "1").output == "new 1\n"
    assert shown(state, "torchserve", "--lines", "0").output == ""
    assert len(shown(state, "torchserve", "--lines", "1000000").output.splitlines()) == 100_002


def test_all_parts_that_have_one(state: Path) -> None:
    assert shown(state, "--lines", "1").output == "==> torchserve <==\nnew 1\n==> worker <==\nworker\n"


def test_a_job_with_its_attempts_in_order(state: Path) -> None:
    assert shown(state, "job-7").output == "attempt 2\nattempt 10\n"


@pytest.mark.parametrize("part", ["supervisor", "job-8", "../jobs/logs/job-7", "*", "nonsense"])
def test_what_there_is_no_log_of(state: Path, part: str) -> None:
    result = shown(state, part)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert part in result.output


def test_follow(state: Path) -> None:
    command = [sys.executable, "-c", "from ouzel.cli.logs import logs; logs()", "worker", "-f", "--state", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as p:
        timer = threading.Timer(60, p.kill)
        timer.start()
        try:
            assert p.stdout is not None
            assert p.stdout.readline() == "worker\n"
            with (state / "worker.log").open("a") as file:
                file.write(" two\n")
            assert p.stdout.readline() == " two\n"
            (state / "worker.log").rename(state / "worker.log.1")
            (state / "worker.log").write_text("three\n")
            assert p.stdout.readline() == "three\n"
            (state / "worker.log").write_text("4\n")  # shorter: cut off and begun anew
            assert p.stdout.readline() == "4\n"
        finally:
            timer.cancel()
            p.kill()
