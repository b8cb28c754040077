"""Each process of a model takes one GPU, in the real services. The GPUs are names alone: nothing computes on them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from ouzel import serving
from ouzel.serving import Ports, RunningServing, ServingOptions
from ouzel.torchserve import rest
from support.services import write_archive

IDS = ("3", "GPU-5a", "MIG-7")
_CLAIM = 'from ouzel import gpus; os.environ["OUZEL_SEEN"] = gpus.claim_shared() + " " + os.environ[gpus.VISIBLE]'


def seen(running: RunningServing, model: str) -> dict[int, str]:
    """By process, what it took and what it sees. All processes are asked: a request goes to one that is free."""
    found: dict[int, str] = {}
    deadline = time.monotonic() + 60
    while len(found) < len(IDS) and time.monotonic() < deadline:
        try:
            status, body = rest.call(
                "POST", f"{running.rest}/predictions/{model}", running.inference_token, body=b"x", timeout=3
            )
        except rest.Unreachable:  # TorchServe may give a request to the process that was killed, and then waits for it
            continue
        if status == 200:
            answer = json.loads(body)
            found[answer["pid"]] = answer["environment"]["OUZEL_SEEN"]
    return found


def test_processes_spread_over_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        write_archive(tmp_path / "store" / f"{name}.mar", load=_CLAIM)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(IDS))
    options = ServingOptions(store=tmp_path / "store", state=tmp_path / "state", ports=Ports.free(), threads=1)
    with serving.start(options) as running:
        first, second = seen(running, "a"), seen(running, "b")
        expected = [f"{each} {each}" for each in sorted(IDS)]
        assert sorted(first.values()) == sorted(second.values()) == expected
        lost = next(iter(first))
        os.kill(lost, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while (again := seen(running, "a")).keys() == first.keys() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert lost not in again
        assert sorted(again.values()) == expected
