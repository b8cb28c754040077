"""Where the time of a batch goes, in answers and in metrics."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from handlers.saliency_handler import SaliencyHandler
from ouzel import serving
from ouzel.explain import STAGES, ExplainService, RawRequest, inputs, stages
from ouzel.explain.stages import Stages
from ouzel.models import Model
from ouzel_protos import tensors
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
    assert torch.equal(inputs.batched(pixels[:2], tiny.preprocessing, device, Stages()), torch.stack(alone))
    mixed = inputs.batched(pixels, tiny.preprocessing, device, Stages())
    assert torch.equal(mixed, torch.stack([*alone, torch.from_numpy(x)]))


def test_normalising_agrees_with_plain_arithmetic(tiny: Model) -> None:
    read = inputs.read(png(0), None, tiny)
    pixels = read.pixels(tiny.preprocessing)
    x = inputs.batched([pixels] * 2, tiny.preprocessing, torch.device("cpu"), Stages())
    expected = (pixels.numpy().astype(np.float64) / 255 - 0.5) / 0.25
    assert picture(0).shape == (40, 48, 3)
    np.testing.assert_allclose(x[1].numpy(), expected, atol=1e-6)


class Context:
    """As much of TorchServe's as `handle` asks for."""

    def get_all_request_header(self, _: int) -> dict[str, str]:
        return {}

    def set_response_content_type(self, _: int, value: str) -> None: ...

    def set_response_status(self, code: int, idx: int) -> None: ...


@pytest.fixture
def handler(service: ExplainService) -> SaliencyHandler:
    handler = SaliencyHandler()
    handler.service = service
    return handler


def test_each_computed_batch_is_observed_once(handler: SaliencyHandler, capsys: pytest.CaptureFixture[str]) -> None:
    handler.handle([{"image": png(0), "options": WISH}, {"image": png(1), "options": WISH}], Context())
    lines = capsys.readouterr().out.splitlines()
    declared = yaml.safe_load(Path(serving.__file__).with_name("metrics.yaml").read_text())["model_metrics"]
    # How TorchServe's Java process reads such a line.
    pattern = re.compile(
        r"^\[METRICS\]([\w\s]+)\.([\w\s]+):([0-9\-,.e]+)\|#([^|]*)\|#type:HISTOGRAM\|#hostname:([^,]+),(\d+)$"
    )
    found = [pattern.match(line) for line in lines]
    assert all(found)
    assert [match[1] for match in found if match] == [each["name"] for each in declared["histogram"]]
    assert {match[4] for match in found if match} == {"ModelName:tiny,ModelVersion:3"}
    assert all(float(match[3]) > 0 for match in found if match)


def test_what_was_not_computed_is_not_observed(handler: SaliencyHandler, capsys: pytest.CaptureFixture[str]) -> None:
    handler.handle([{"image": b"no image"}, {"image": png(0), "options": b'{"estimate_only": true}'}], Context())
    assert "[METRICS]" not in capsys.readouterr().out
