"""Which GPUs there are, and who gets which; `nvidia-smi` is a script that plays it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ouzel import gpus

Play = Callable[..., None]

LIST = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa1111-0000-0000-0000-000000000000)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb2222-0000-0000-0000-000000000000)
"""
DIVIDED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa1111-0000-0000-0000-000000000000)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb2222-0000-0000-0000-000000000000)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-0000-0000-0000-000000000000)
  MIG 1c.2g.10gb  Device  1: (UUID: MIG-a28ad590-0000-0000-0000-000000000000)
"""
TABLE = """\
0, GPU-aaaa1111-0000-0000-0000-000000000000, 81559
1, GPU-bbbb2222-0000-0000-0000-000000000000, 40000
"""
MIGS = ("MIG-c7384736-0000-0000-0000-000000000000", "MIG-a28ad590-0000-0000-0000-000000000000")


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Puts a fake `nvidia-smi` on the path, which answers `-L` and queries with these texts."""
    monkeypatch.delenv(gpus.VISIBLE, raising=False)

    def play(listed: str = LIST, table: str = TABLE, status: int = 0) -> None:
        script = tmp_path / "bin" / "nvidia-smi"
        script.parent.mkdir(exist_ok=True)
        (tmp_path / "listed").write_text(listed)
        (tmp_path / "table").write_text(table)
        script.write_text(
            f'#!/bin/sh\nif [ "$1" = -L ]; then cat {tmp_path}/listed; else cat {tmp_path}/table; fi\nexit {status}\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")

    return play


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ("", ()),
        ("-1", ()),
        ("0", ("0",)),
        ("2, 3", ("2", "3")),
        ("1,-1,0", ("1",)),  # CUDA reads no further
        ("0,0", ("0",)),
        ("GPU-5a,MIG-7", ("GPU-5a", "MIG-7")),
    ],
)
def test_the_environment_says_which(said: str, ids: tuple[str, ...], play: Play, monkeypatch) -> None:
    play()
    monkeypatch.setenv(gpus.VISIBLE, said)
    assert gpus.visible() == ids


def test_without_it_all_that_the_driver_lists(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play()
    assert gpus.visible() == ("0", "1")
    play(DIVIDED)
    assert gpus.visible() == ("0", *MIGS)
    play(status=9)  # the driver does not run
    assert gpus.visible() == ()
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpus.visible() == ()


def test_memory_is_that_of_the_smallest(play: Play) -> None:
    play()
    assert gpus.memory_mb(["0", "1"]) == 40000
    assert gpus.memory_mb(["0"]) == gpus.memory_mb(["GPU-aaaa"]) == 81559
    assert gpus.memory_mb(["7"]) is None
    assert gpus.free_mb("GPU-bbbb2222") == 40000
    play(DIVIDED)
    assert gpus.memory_mb(MIGS) == 10 * 1024
    assert gpus.free_mb(MIGS[0]) is None


_CLAIM = """
import os, sys
from ouzel import gpus
print(gpus.claim_shared(), os.environ[gpus.VISIBLE], flush=True)
sys.stdin.read()
"""


def test_processes_spread_and_one_that_follows_takes_the_place_that_is_free(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(gpus.SHARED, "2,GPU-5a,MIG-7")
    monkeypatch.setenv(gpus.CLAIMS, str(tmp_path / "claims"))

    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", _CLAIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        claimed, visible = process.stdout.readline().split()
        assert claimed == visible
        return process, claimed

    processes = [start() for _ in range(5)]
    try:
        assert [claimed for _, claimed in processes] == ["2", "GPU-5a", "MIG-7", "2", "GPU-5a"]
        processes[1][0].kill()
        processes[1][0].wait()
        processes.append(start())
        processes.append(start())
        assert [claimed for _, claimed in processes[5:]] == ["GPU-5a", "MIG-7"]
    finally:
        for process, _ in processes:
            process.kill()
            process.communicate()


def test_without_gpus_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpus.SHARED, "")
    monkeypatch.setenv(gpus.VISIBLE, "unchanged")
    assert gpus.claim_shared() == ""
    assert gpus.os.environ[gpus.VISIBLE] == "unchanged"
