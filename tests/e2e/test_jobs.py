"""`ouzel up`, a job watched from two processes, one of which is killed; the worker killed in the middle; the result."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from ouzel.models import Model
from ouzel_client import Channel, ClassLogit, Client
from ouzel_protos.local import read_worker
from support.jobs import until

pytestmark = pytest.mark.e2e
MODEL = "efficientnet-lite0"
STEPS = 40

_WATCHER = """
import sys
from ouzel_client import Client, Retry
with Client(retry=Retry(attempts=12)) as ouzel:  # the worker may just be starting again
    for event in ouzel.jobs.get(sys.argv[1]).events(int(sys.argv[2])):
        print(event.sequence, flush=True)
"""


def watcher(environment: dict[str, str], job: str, after: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen([sys.executable, "-c", _WATCHER, job, str(after)], env=environment, stdout=output)


def seen(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def test_a_job_survives_it_all(
    environment: dict[str, str], tmp_path: Path, lite0: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = Path(environment["OUZEL_STATE"])
    monkeypatch.setenv("OUZEL_STATE", str(state))
    first, second = tmp_path / "first", tmp_path / "second"
    with Client() as client:
        nodes = [ClassLogit("water ouzel"), Channel("blocks.3", 5)]
        asked: dict[str, Any] = {"parameters": {"steps": STEPS}, "size": (64, 64), "seed": 4}
        job = client.jobs.maximize(MODEL, nodes, **asked)
        watchers = [watcher(environment, job.id, 0, log) for log in (first, second)]
        try:
            until(lambda: len(seen(first)) > 4 and job.refresh().progress.step > 2, 90)
            watchers[0].kill()
            watchers[0].wait()
            _kill_worker(state)
            watchers[0] = watcher(environment, job.id, seen(first)[-1], first)
            result = job.result(120)  # the supervisor starts a worker again
            for each in watchers:
                assert each.wait(60) == 0
            events = job.refresh().last_sequence
            alone = client.jobs.maximize(MODEL, nodes, **asked).result(120)
        finally:
            for each in watchers:
                each.kill()
                each.wait()
        everything = list(range(1, events + 1))
        assert (seen(first), seen(second)) == (everything, everything)
        assert job.attempt == 2
    for name, content in result.pictures.items():
        again = np.asarray(Image.open(io.BytesIO(content)), dtype=int)
        assert np.abs(again - np.asarray(Image.open(io.BytesIO(alone.pictures[name])), dtype=int)).max() <= 1
    reached = list(result.summary["activations"])
    assert reached == pytest.approx(list(alone.summary["activations"]), rel=1e-5)
    # And the first really is the logit of the first picture.
    pixels = torch.tensor(np.array(result.image)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (lite0.preprocessing.mean, lite0.preprocessing.std))
    logits = lite0.network(((pixels - mean) / std)[None])[0]
    assert logits[lite0.labels.index("water ouzel")].item() == pytest.approx(reached[0], rel=1e-4)


def _kill_worker(state: Path) -> None:
    record = read_worker(state)
    assert record is not None
    process = psutil.Process(record["pid"])
    children = process.children(recursive=True)
    process.send_signal(signal.SIGKILL)
    until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))
