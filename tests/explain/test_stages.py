"""Where the time of a batch goes, in answers and in metrics."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import ClassVar
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from torch._subclasses.fake_tensor import FakeTensorMode

from handlers.saliency_handler import SaliencyHandler
from ouzel import serving
from ouzel.explain import STAGES, ExplainService, RawRequest, inputs, stages
from ouzel.explain.batch_metrics import BatchMetrics
from ouzel.explain.stages import Stages
from ouzel.models import Model
from ouzel.saliency import transfer as transfers
from ouzel.saliency.transfer import Transfer
from ouzel.telemetry import tracing
from ouzel_protos import tensors
from support.otlp import collector
from support.pictures import picture, png

WISH = b'{"saliency": ["gradient"]}'


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that shows the next of these whenever it is read."""
    times: list[float] = []
    monkeypatch.setattr(stages.time, "perf_counter", lambda: times.pop(0))
    return times


def test_laps_follow_one_another(ticks: list[float]) -> None:
    ticks += [10.0, 10.5, 11.0, 13.0]
    spent = Stages()
    for stage in ("decode", "copy", "decode"):
        spent.lap(stage)
    assert spent.seconds == {"decode": 2.5, "preprocess": 0, "copy": 0.5, "compute": 0, "encode": 0}
    timing = spent.message(3)
    assert (timing.decode_ms, timing.copy_ms, timing.total_ms, timing.batch_size) == (2500, 500, 3000, 3)


def test_what_was_done_side_by_side_is_divided_by_what_each_stage_took(ticks: list[float]) -> None:
    ticks += [0.0, 0.0, 3.0, 4.0, 0.0, 3.0, 4.0, 4.0]
    together, first = Stages(), Stages()
    first.lap("decode")
    first.lap("preprocess")
    second = Stages()
    second.lap("decode")
    second.lap("preprocess")
    together.share([first, second])  # 6 of decoding and 2 of preprocessing, in 4 by the clock
    assert together.seconds["decode"] == 3
    assert together.seconds["preprocess"] == 1


def test_every_row_of_a_batch_tells_the_same(service: ExplainService) -> None:
    rows = [RawRequest(image=png(0), options=WISH), RawRequest(image=b"no image"), RawRequest(image=png(1))]
    answers = [reply.envelope for reply in service.answer(rows)]
    assert answers[1].error.field == "image"
    timing = answers[0].timing
    assert [answer.timing for answer in answers] == [timing] * 3
    assert timing.batch_size == 2
    parts = [getattr(timing, f"{stage}_ms") for stage in STAGES]
    assert all(part > 0 for part in parts)
    assert sum(parts) == pytest.approx(timing.total_ms, rel=1e-5)


def test_pixels_and_tensors_in_one_batch_are_normalised_as_alone(tiny: Model) -> None:
    images = [inputs.read(png(seed), None, tiny) for seed in (0, 1)]
    x = np.random.default_rng(0).normal(size=tiny.input_shape).astype(np.float32)
    tensor = inputs.read(None, tensors.encode(x).SerializeToString(), tiny)
    alone = [tiny.preprocessing(each.picture) for each in images if each.picture is not None]
    pixels = [each.pixels(tiny.preprocessing) for each in (*images, tensor)]
    device = torch.device("cpu")
    assert torch.equal(inputs.batched(pixels[:2], tiny.preprocessing, device, Stages(), Transfer()), torch.stack(alone))
    mixed = inputs.batched(pixels, tiny.preprocessing, device, Stages(), Transfer())
    assert torch.equal(mixed, torch.stack([*alone, torch.from_numpy(x)]))


def test_normalising_agrees_with_plain_arithmetic(tiny: Model) -> None:
    read = inputs.read(png(0), None, tiny)
    pixels = read.pixels(tiny.preprocessing)
    x = inputs.batched([pixels] * 2, tiny.preprocessing, torch.device("cpu"), Stages(), Transfer())
    expected = (pixels.numpy().astype(np.float64) / 255 - 0.5) / 0.25
    assert picture(0).shape == (40, 48, 3)
    np.testing.assert_allclose(x[1].numpy(), expected, atol=1e-6)


class Mark:
    """In place of a CUDA event: the device reaches the n-th mark after n * n seconds, once somebody has waited."""

    made: ClassVar[list[Mark]] = []
    waited: ClassVar[list[Mark]] = []

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.number = 0

    def record(self, _stream: object) -> None:
        self.made.append(self)
        self.number = len(self.made)

    def synchronize(self) -> None:
        self.waited.append(self)

    def elapsed_time(self, end: Mark) -> float:
        assert self.waited[0].number >= end.number, "the device is not that far"
        return 1e3 * (end.number**2 - self.number**2)


def test_a_batch_for_a_gpu_is_sent_without_waiting_and_timed_by_the_device(tiny: Model) -> None:
    """Faked: tensors on the GPU (they have no values), pinned memory, streams, and the marks of the device."""
    rows = [inputs.read(png(seed), None, tiny).pixels(tiny.preprocessing) for seed in range(3)]
    pinned: list[tuple[int, ...]] = []

    def host(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        pinned.append(tuple(shape))
        return torch.empty(shape, dtype=dtype)

    Mark.made, Mark.waited = [], []
    transfer, device = Transfer(), torch.device("cuda")
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        mock.patch.object(torch.cuda, "Event", Mark),
        mock.patch.object(torch.cuda, "current_stream", return_value=None),
        mock.patch.object(torch.cuda, "synchronize", side_effect=AssertionError("the host waits")),
        mock.patch.object(transfers, "pinned", host),
    ):
        x = inputs.batched(rows, tiny.preprocessing, device, Stages(), transfer)
        assert (x.device.type, x.dtype, x.shape) == ("cuda", torch.float32, (3, 3, 32, 32))
        back = transfer.take(x)
        assert back.device.type == "cpu"
    assert pinned == [(3, 3, 32, 32)] * 2
    assert not Mark.waited
    assert transfer.seconds == {}
    transfer.wait()
    assert Mark.waited[0] is Mark.made[-1]  # the others have come before
    assert transfer.seconds == {"copy": (4 - 1) + (36 - 25), "preprocess": 16 - 9}


class Context:
    """As much of TorchServe's as `handle` asks for."""

    def get_all_request_header(self, _: int) -> dict[str, str]:
        return {}

    def set_response_content_type(self, _: int, value: str) -> None: ...

    def set_response_status(self, code: int, idx: int) -> None: ...


@pytest.fixture
def handler(service: ExplainService) -> SaliencyHandler:
    handler = SaliencyHandler()
    handler.service, handler.metrics = service, BatchMetrics("tiny", "3")
    return handler


def test_each_computed_batch_is_observed_once(handler: SaliencyHandler, capsys: pytest.CaptureFixture[str]) -> None:
    handler.handle([{"image": png(0), "options": WISH}, {"image": png(1), "options": WISH}], Context())
    lines = capsys.readouterr().out.splitlines()
    declared = yaml.safe_load(Path(serving.__file__).with_name("metrics.yaml").read_text())["model_metrics"]
    # How TorchServe's Java process reads such a line.
    pattern = re.compile(
        r"^\[METRICS\]([\w\s]+)\.([\w\s]+):([0-9\-,.e]+)\|#([^|]*)\|#type:([A-Z]+)\|#hostname:([^,]+),(\d+)$"
    )
    told: dict[str, list[str]] = {}
    for line in lines:
        match = pattern.match(line)
        assert match, line
        (kind,) = [kind for kind, each in declared.items() for one in each if one["name"] == match[1]]
        (known,) = [one for one in declared[kind] if one["name"] == match[1]]
        assert (match[2], match[5]) == (known["unit"], kind.upper())
        assert [each.partition(":")[0] for each in match[4].split(",")] == known["dimensions"]
        assert match[4].startswith("ModelName:tiny,ModelVersion:3")
        assert float(match[3]) > 0
        told.setdefault(kind, []).append(match[1])
    assert told["histogram"] == [each["name"] for each in declared["histogram"]]
    assert told["counter"] == ["ouzel_explain_rows_total"]
    assert told["gauge"][0] == "ouzel_explain_resident_bytes"
    handler.handle([{"image": png(0), "options": WISH}], Context())
    assert "_bytes" not in capsys.readouterr().out  # the memory is looked at now and then


def test_what_was_not_computed_is_counted_alone(handler: SaliencyHandler, capsys: pytest.CaptureFixture[str]) -> None:
    handler.handle([{"image": b"no image"}, {"image": png(0), "options": b'{"estimate_only": true}'}], Context())
    said = capsys.readouterr().out
    assert "HISTOGRAM" not in said
    assert "ouzel_explain_rows_total.Count:1|#ModelName:tiny,ModelVersion:3,Code:INVALID_ARGUMENT|" in said
    assert "ouzel_explain_rows_total.Count:1|#ModelName:tiny,ModelVersion:3,Code:OK|" in said


def test_rows_are_spans_below_those_of_their_callers(handler: SaliencyHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each below its own, with the stages of the batch one after the other; who does not trace has none."""
    with collector() as collected:
        for name, value in collected.environment.items():
            monkeypatch.setenv(name, value)
        tracing.start("ouzel-model")
        try:
            parents = [f"00-{trace:032x}-{span:016x}-01" for trace, span in ((1, 2), (3, 4))]
            rows = [{"image": png(0), "options": WISH, "traceparent": each.encode()} for each in parents]
            rows[0]["tracestate"] = b"vendor=x"
            bad = {"image": b"no image", "traceparent": parents[0].encode()}
            odd = {"image": png(0), "traceparent": b"\xff" * 100}
            long = {"image": png(0), "traceparent": b"0" * 500, "tracestate": b"x"}
            handler.handle([*rows, bad, odd, long, {"image": png(1)}], Context())
        finally:
            tracing.stop()
    explained = collected.named("explain")
    known = [each for each in explained if each.parent]
    assert [(int(each.trace, 16), int(each.parent, 16)) for each in known] == [(1, 2), (3, 4), (1, 2)]
    assert [each.attributes["ouzel.code"] for each in known] == ["OK", "OK", "INVALID_ARGUMENT"]
    assert [each.state for each in known] == ["vendor=x", "", ""]
    assert known[0].attributes["ouzel.batch_size"] == 5
    assert known[0].attributes["ouzel.model"] == "tiny"
    assert len(explained) == 4  # what is no parent begins a trace of its own
    stages = [each for each in collected.spans if each.parent == known[0].id]
    names = [each.name for each in stages]
    assert names == [each for each in STAGES if each in names]
    assert {"decode", "compute"} <= set(names)
    assert stages[0].begun == known[0].begun
    for one, next_ in pairwise(stages):
        assert one.ended <= next_.begun
    assert stages[-1].ended <= known[0].ended
