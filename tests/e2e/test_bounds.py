"""Requests for too much are refused before any work; work for callers who are gone stops."""

from __future__ import annotations

import json

import numpy as np
import psutil
import pytest

from ouzel.serving import RunningServing
from ouzel_client import Client, DeadlineExceeded, Saliency
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb

pytestmark = pytest.mark.e2e
MODEL = "efficientnet-lite0"


def nan_baseline() -> bytes:
    image = np.zeros((3, 224, 224), np.float32)
    image[0, 5, 7] = np.nan
    options = pb.ExplainOptions()
    options.saliency.add(method="integrated_gradients").parameters["baseline"].tensor.CopyFrom(tensors.encode(image))
    return options.SerializeToString()


def wish(method: str, **parameters: object) -> bytes:
    return json.dumps({"saliency": [{"method": method, **parameters}]}).encode()


@pytest.mark.parametrize(
    ("options", "parameter", "limit"),
    [
        (wish("integrated_gradients", steps=0), "steps", "1..1024"),
        (wish("integrated_gradients", steps=-1), "steps", "1..1024"),
        (wish("integrated_gradients", steps=10**9), "steps", "1..1024"),
        (wish("smoothgrad", samples=10**6), "samples", "1..512"),
        (wish("rise", masks=10**6), "masks", "1..16384"),
        (wish("rise", masks=16384), "masks", "the limit is 2048; masks 2047 fits"),
        (wish("occlusion", stride=1), "stride", "the limit is 2048; stride 5 fits"),
        (wish("integrated_gradients", steps=1024), "steps", "the limit is 2048; steps 1023 fits"),
        (nan_baseline(), "baseline", "not finite"),
    ],
)
def test_too_much_is_refused_without_any_work(
    wire, chelsea_png: bytes, options: bytes, parameter: str, limit: str
) -> None:
    answer = wire.grpc(image=chelsea_png, options=options)
    assert answer.error.code == pb.Error.INVALID_ARGUMENT
    assert answer.error.field == f"saliency[0].parameters.{parameter}"
    assert limit in answer.error.message
    assert (answer.timing.compute_ms, answer.timing.batch_size) == (0, 0)


class Work:
    """What the one worker has reckoned, in seconds of its processor."""

    def __init__(self, running: RunningServing) -> None:
        (pid,) = running.worker_pids()
        self._process = psutil.Process(pid)
        self._start = self._now()

    def done(self) -> float:
        """Since the last time that somebody asked."""
        before, self._start = self._start, self._now()
        return self._start - before

    def _now(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def test_work_stops_when_the_callers_time_is_over(wire, running: RunningServing, chelsea, chelsea_png: bytes) -> None:
    """A deadline that passes, and a caller who hangs up: the 1024 passes they asked for are not made."""
    with Client(target=running.grpc, token=running.inference_token, timeout=60) as client:
        model = client.models[MODEL]
        work = Work(running)
        model.explain(chelsea, saliency=Saliency("rise", masks=64))
        whole = 16 * work.done()

        with pytest.raises(DeadlineExceeded):
            model.explain(chelsea, saliency=Saliency("rise", masks=1024), timeout=0.2)
        model.explain(chelsea)  # waits for the worker
        assert work.done() < whole / 4

        options = json.dumps({"saliency": [{"method": "rise", "masks": 1024}], "timeout": 0.2}).encode()
        answer = wire.grpc(image=chelsea_png, options=options)
        assert answer.error.code == pb.Error.DEADLINE_EXCEEDED
        assert not answer.saliency
        assert work.done() < whole / 4

        wire.future(image=chelsea_png, options=options).cancel()
        model.explain(chelsea)
        assert work.done() < whole / 4
