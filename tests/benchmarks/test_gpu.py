"""`make gpu` runs on a machine without a GPU too, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from ouzel.saliency import METHODS
from support.jobs import until

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

# What is started lives in a session of its own, as services do.
_STARTS = """
import subprocess, sys, time
from ending import all_ended
with all_ended() as environment:
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True)"
    subprocess.run([sys.executable, "-c", code], env=environment, start_new_session=True)
    if sys.argv[1] == "stay":
        time.sleep(600)
"""


def test_the_table_has_every_method_in_every_precision() -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--quick", "--parts", "exactness"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "|" in line]
    rows = table[: next(number for number, row in enumerate(table) if row[0] == "part")]
    assert rows[0][3:] == list(METHODS)
    figures = {row[1]: dict(zip(METHODS, row[3:], strict=True)) for row in rows[2:]}
    assert list(figures) == ["CPU, exact", "plain PyTorch", "exact", "tf32", "bf16"]
    for method in METHODS:
        assert float(figures["exact"][method]) < 1e-4  # ties aside, of which a tiny network has few
        assert float(figures["bf16"][method]) > float(figures["exact"][method])
    assert table[-1][:2] == ["exactness", "ended well"]


def test_a_part_that_fails_is_told_and_fails_the_whole() -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "nonsense", "--quick", "--parts", "exactness"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "| exactness | failed (1)" in done.stdout


def started(words: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A benchmark, and the process that it has started by way of another."""
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    process = subprocess.Popen(
        [sys.executable, "-c", _STARTS, words], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, psutil.Process(int(process.stdout.readline()))


def test_all_that_was_started_ends_with_the_benchmark() -> None:
    process, left = started("end")
    assert process.wait(60) == 0
    assert not left.is_running()


def test_all_that_was_started_ends_when_the_benchmark_is_killed() -> None:
    process, left = started("stay")
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    until(lambda: not left.is_running() or left.status() == psutil.STATUS_ZOMBIE, 60)
