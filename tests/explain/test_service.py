"""The explain service on raw rows: results, isolation of rows, refusals."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from ouzel.errors import InvalidArgument
from ouzel.explain import JSON, PNG, ExplainService, Limits, RawRequest
from ouzel.models import Model
from ouzel.saliency import Explainer, Saliency
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.tensor_pb2 import Tensor
from support.pictures import picture, png

LABELS = ("grass", "sheep", "goat", "rock")


def ask(service: ExplainService, options: object = None, image: bytes | None = None, **more: object) -> pb.Explanation:
    raw = options.SerializeToString() if isinstance(options, pb.ExplainOptions) else json.dumps(options or {})
    request = RawRequest(image=png(0) if image is None else image, options=raw, **more)  # type: ignore[arg-type]
    return service.answer([request])[0].envelope


def test_prediction_and_maps_equal_the_library(service: ExplainService, tiny: Model) -> None:
    answer = ask(service, {"top_k": 2, "saliency": ["gradient", {"method": "guided", "target": "goat"}, "grad_cam"]})
    x = tiny.preprocessing(Image.fromarray(picture(0)))[None]
    expected = Explainer(tiny)(x, [Saliency("gradient"), Saliency("guided", target=2), Saliency("grad_cam")])
    assert answer.model.name == "tiny"
    assert answer.model.version == "3"
    assert answer.model.weights_digest == "sha256:tiny"
    best = int(expected.logits[0].argmax())
    assert [s.index for s in answer.scores] == expected.logits[0].argsort(descending=True)[:2].tolist()
    assert answer.scores[0].label == LABELS[best]
    assert answer.scores[0].probability == pytest.approx(float(expected.logits.softmax(1)[0, best]), rel=1e-6)
    for got, want in zip(answer.saliency, expected.maps, strict=True):
        # Each explainer chooses the memory format that it finds faster: the last bits may differ.
        most = float(want.values.max())
        np.testing.assert_allclose(tensors.decode(got.values), want.values[0].numpy(), atol=1e-5 * most)
        assert got.maximum == tensors.decode(got.values).max()
    assert [m.target.index for m in answer.saliency] == [best, 2, best]
    assert answer.saliency[1].rectified == 2
    assert answer.saliency[1].caveats
    assert answer.saliency[2].parameters["layer"].text == "4"
    assert (answer.view.image_width, answer.view.image_height) == (48, 40)


def test_message_and_json_options_agree(service: ExplainService) -> None:
    message = pb.ExplainOptions(
        top_k=1,
        request_id="r-1",
        saliency=[
            pb.SaliencyRequest(
                method="gradient",
                target=pb.Target(contrast=pb.Contrast(a=pb.ClassRef(label="sheep"), b=pb.ClassRef(index=2))),
                reduction=pb.NONE,
                dtype=Tensor.FLOAT16,
                size=pb.ORIGINAL_IMAGE,
            ),
            pb.SaliencyRequest(
                method="grad_cam", target=pb.Target(top=2), parameters={"layer": pb.Parameter(text="0")}
            ),
        ],
    )
    document = {
        "top_k": 1,
        "request_id": "r-1",
        "saliency": [
            {
                "method": "gradient",
                "target": {"contrast": ["sheep", 2]},
                "reduction": "none",
                "dtype": "float16",
                "size": "original",
            },
            {"method": "grad_cam", "target": {"top": 2}, "layer": "0"},
        ],
    }
    first, second = ask(service, message), ask(service, document)
    first.ClearField("timing")
    second.ClearField("timing")
    assert first == second
    assert tensors.decode(first.saliency[0].values).shape == (3, 40, 48)
    assert tensors.decode(first.saliency[0].values).dtype == np.float16
    assert (first.saliency[0].target.index, first.saliency[0].target.minus_index) == (1, 2)
    assert len(first.saliency) == 3


def test_map_of_the_original_size_lies_where_the_model_looked(service: ExplainService) -> None:
    answer = ask(service, {"saliency": [{"method": "gradient", "size": "original"}]}, image=png(0, 100, 40))
    values = tensors.decode(answer.saliency[0].values)
    assert values.shape == (40, 100)
    left, right = round(answer.view.left), round(answer.view.right)
    assert not values[:, :left].any()
    assert not values[:, right:].any()
    assert values[:, left:right].max() > 0


def test_one_bad_row_of_eight_leaves_seven_results(service: ExplainService) -> None:
    good = [RawRequest(image=png(i), options=b'{"saliency": ["guided"]}') for i in range(8)]
    alone = [service.answer([request])[0].envelope for request in good]
    for bad in (
        RawRequest(image=b"<html>"),
        RawRequest(image=png(3), options=b'{"saliency": ["gided"]}'),
        RawRequest(image=png(3), options=b'{"saliency": [{"method": "grad_cam", "layer": "7"}]}'),
        RawRequest(),
    ):
        replies = service.answer([*good[:3], bad, *good[4:]])
        assert [reply.envelope.HasField("error") for reply in replies] == [i == 3 for i in range(8)]
        assert not replies[3].envelope.scores
        assert replies[3].http >= 400
        for index in (0, 1, 2, 4, 5, 6, 7):
            got = tensors.decode(replies[index].envelope.saliency[0].values)
            want = tensors.decode(alone[index].saliency[0].values)
            np.testing.assert_allclose(got, want, atol=1e-5 * want.max())


def test_rows_keep_their_own_options(service: ExplainService) -> None:
    wishes = [
        {"saliency": ["gradient"]},
        {"saliency": [{"method": "guided", "target": 1}, "grad_cam"], "top_k": 1},
        {},
        {"saliency": [{"method": "gradient", "target": {"top": 4}}], "request_id": "four"},
        {"estimate_only": True, "saliency": ["guided"]},
    ]
    replies = service.answer([RawRequest(image=png(i), options=json.dumps(wish)) for i, wish in enumerate(wishes)])
    rows = [[(m.method, m.target.index) for m in reply.envelope.saliency] for reply in replies]
    predicted = [reply.envelope.scores[0].index for reply in replies[:4]]
    assert rows[0] == [("gradient", predicted[0])]
    assert rows[1] == [("guided", 1), ("grad_cam", predicted[1])]
    assert rows[2] == []
    assert sorted(index for _, index in rows[3]) == [0, 1, 2, 3]
    assert replies[3].envelope.request_id == "four"
    assert replies[4].envelope.estimate.passes == 2
    assert not replies[4].envelope.scores


def test_conditions_decide_per_row(service: ExplainService) -> None:
    plain = ask(service, {"saliency": ["gradient"]})
    score, label = plain.scores[0].probability, plain.scores[0].label
    other = next(name for name in LABELS if name != label)
    holds = [{"score_below": min(score + 0.01, 1)}, {"entropy_above": 0.0}, {"labels": [label]}]
    fails = [{"score_below": score}, {"entropy_above": 1.3862943611}, {"labels": [other]}]
    rows = [RawRequest(image=png(0), options=json.dumps({"saliency": ["gradient"], "when": w})) for w in holds + fails]
    replies = [reply.envelope for reply in service.answer(rows)]
    for reply, when in zip(replies, holds, strict=False):
        assert len(reply.saliency) == 1, when
        assert not reply.skipped
    for reply, when in zip(replies[3:], fails, strict=True):
        assert not reply.saliency, when
        assert next(iter(when)) in reply.skipped
        assert reply.scores


@pytest.mark.parametrize(
    ("options", "field", "hint"),
    [
        ({"top_k": 5}, "top_k", "0..4"),
        ({"top_k": -1}, "top_k", "0..4"),
        ({"top_k": 2**40}, "top_k", "32 bits"),
        ({"top_k": True}, "top_k", "integer"),
        ({"saliency": "guided"}, "saliency", "list"),
        ({"saliency": [{"method": "gradient", "target": -1}]}, "saliency[0].target", "0..3"),
        ({"saliency": ["gradient", {"method": "gradient", "target": 4}]}, "saliency[1].target", "0..3"),
        ({"saliency": [{"method": "gradient", "target": 2**63}]}, "saliency[0].target", "64 bits"),
        ({"saliency": [{"method": "gradient", "target": "shep"}]}, "saliency[0].target", "sheep"),
        ({"saliency": [{"method": "gradient", "target": {"contrast": [1, 1]}}]}, "saliency[0].target", "itself"),
        ({"saliency": [{"method": "gradient", "target": {"contrast": [1]}}]}, "saliency[0].target.contrast", "two"),
        ({"saliency": [{"method": "gradient", "target": {"top": 0}}]}, "saliency[0].target", "1..4"),
        ({"saliency": [{"method": "gradient", "target": {"top": 1, "rank": 1}}]}, "saliency[0].target", "one of"),
        ({"saliency": ["gided"]}, "saliency[0].method", "guided"),
        ({"saliency": [{"method": "gradient", "steps": 3}]}, "saliency[0].parameters.steps", "none"),
        ({"saliency": [{"method": "grad_cam", "layer": 3}]}, "saliency[0].parameters.layer", "str"),
        ({"saliency": [{"method": "grad_cam", "layer": "__class__"}]}, "saliency[0].layer", "__class__"),
        ({"saliency": [{"method": "grad_cam", "layer": "../x"}]}, "saliency[0].layer", "../x"),
        ({"saliency": [{"method": "gradient", "reduction": "mean"}]}, "saliency[0].reduction", "max_abs"),
        ({"saliency": [{"method": "gradient", "dtype": "float64"}]}, "saliency[0].dtype", "float16"),
        ({"saliency": [{"method": "gradient", "size": "huge"}]}, "saliency[0].size", "original"),
        ({"saliency": ["gradient"] * 33}, "saliency[32]", "32"),
        ({"when": {"score_below": 1.5}}, "when.score_below", "0..1"),
        ({"when": {"entropy_above": -1}}, "when.entropy_above", "0..1.38"),
        ({"when": {"labels": ["cat"]}}, "when.labels", "cat"),
        ({"when": {"score_above": 0.5}}, "when.score_above", "score_below"),
        ({"explain": True}, "explain", "saliency"),
        ({"request_id": "x" * 129}, "request_id", "128"),
    ],
)  # fmt: skip
def test_bad_options_name_field_and_limit(service: ExplainService, options: object, field: str, hint: str) -> None:
    error = ask(service, options).error
    assert error.code in (pb.Error.INVALID_ARGUMENT, pb.Error.NOT_FOUND)
    assert error.field == field
    assert hint in error.message
    assert field.rpartition(".")[2].split("[")[0] in error.message


@pytest.mark.parametrize("options", [b"\xff\xfe\x00", b"{", b"{nan}", b"[1]", b"[" * 100_000, b"not json"])
def test_options_that_cannot_be_read(service: ExplainService, options: bytes) -> None:
    reply = service.answer([RawRequest(image=png(0), options=options)])[0]
    assert reply.envelope.error.code == pb.Error.INVALID_ARGUMENT
    assert reply.envelope.error.field == "options"
    assert reply.http == 400


@given(st.binary(max_size=64))
def test_no_options_break_the_service(service: ExplainService, options: bytes) -> None:
    envelope = service.answer([RawRequest(image=png(0), options=options)])[0].envelope
    assert envelope.scores or envelope.HasField("estimate") or envelope.error.code != pb.Error.INTERNAL
    assert "internal" not in envelope.error.message


def test_tensors_as_input(service: ExplainService, tiny: Model) -> None:
    options = b'{"saliency": ["gradient"]}'
    by_file = ask(service, {"saliency": ["gradient"]})
    pixels = tensors.encode(picture(0)).SerializeToString()
    ready = tensors.encode(tiny.preprocessing(Image.fromarray(picture(0))).numpy()).SerializeToString()
    for data in (pixels, ready):
        envelope = service.answer([RawRequest(tensor=data, options=options)])[0].envelope
        assert envelope.saliency[0].values == by_file.saliency[0].values


@pytest.mark.parametrize(
    ("tensor", "hint"),
    [
        (Tensor(dtype=Tensor.UINT8, shape=[4, 4, 3], data=b"x"), "48 bytes"),
        (Tensor(dtype=Tensor.UINT8, shape=[-1, 4, 3], data=b"x"), "negative"),
        (tensors.encode(np.zeros((4, 4, 3), np.uint8)), "8"),
        (tensors.encode(np.zeros((3, 31, 32), np.float32)), "(3, 32, 32)"),
        (tensors.encode(np.full((3, 32, 32), np.nan, np.float32)), "finite"),
        (tensors.encode(np.zeros((3, 32, 32), np.float64)), "float64"),
        (Tensor(), "dtype"),
    ],
)
def test_bad_tensors(service: ExplainService, tensor: Tensor, hint: str) -> None:
    envelope = service.answer([RawRequest(tensor=tensor.SerializeToString())])[0].envelope
    assert envelope.error.code == pb.Error.INVALID_ARGUMENT
    assert hint in envelope.error.message


def test_an_answer_too_large_is_refused_before_the_work(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    service = ExplainService(tiny, Limits(response_bytes=20_000))
    monkeypatch.setattr(service.explainer, "forward", lambda *_: pytest.fail("computed all the same"))
    wish = {"saliency": [{"method": "gradient", "reduction": "none"}, {"method": "guided", "reduction": "none"}]}
    error = ask(service, wish).error
    assert error.code == pb.Error.INVALID_ARGUMENT
    assert "20000" in error.message
    estimate = ask(service, wish | {"estimate_only": True}).estimate
    assert estimate.response_limit_bytes == 20_000
    assert estimate.response_bytes > 20_000


@pytest.mark.parametrize("media_type", ["application/x-protobuf", JSON, PNG])
@pytest.mark.parametrize("size", ["model", "original"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_no_answer_is_longer_than_its_estimate(tiny: Model, media_type: str, size: str, dtype: str) -> None:
    service = ExplainService(tiny, Limits(response_bytes=10**9))
    wish = {
        "top_k": 4,
        "saliency": [
            {"method": method, "size": size, "dtype": dtype, "reduction": reduction}
            for method in ("gradient", "guided", "grad_cam")
            for reduction in ("max_abs", "none")
        ],
    }
    image = png(1, 200, 150)
    request = RawRequest(image=image, options=json.dumps(wish), media_type=media_type)
    body, _ = service.answer([request])[0].render(media_type)
    asked = RawRequest(image=image, options=json.dumps(wish | {"estimate_only": True}), media_type=media_type)
    assert len(body) <= service.answer([asked])[0].envelope.estimate.response_bytes


def test_png_shows_every_map(service: ExplainService) -> None:
    wish = b'{"saliency": ["guided", {"method": "grad_cam", "size": "original"}]}'
    body, media_type = service.answer([RawRequest(png(0), None, wish, PNG)])[0].render(PNG)
    assert media_type == PNG
    # The model sees 36/32 of the shorter edge: 40 pixels of the picture are fewer than its 32, so nothing is enlarged.
    assert Image.open(io.BytesIO(body)).size == (48 + 48, 40)
    refused, media_type = service.answer([RawRequest(png(0), None, b"", PNG)])[0].render(PNG)
    assert media_type == JSON
    assert json.loads(refused)["error"]["field"] == "saliency"


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photograph_of_24_megapixels_is_told_and_drawn_in_its_own_geometry(tiny: Model, orientation: int) -> None:
    """The right half of what the model sees is white; the file is read at a quarter of its size."""
    pixels = np.zeros((400, 600, 3), np.uint8)
    pixels[:, 300:] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).resize((6000, 4000), Image.Resampling.NEAREST).save(file, "JPEG", exif=exif)
    service = ExplainService(tiny, Limits(response_bytes=10**6))
    wish = b'{"saliency": [{"method": "gradient", "target": 0}, "grad_cam"]}'
    reply = service.answer([RawRequest(file.getvalue(), None, wish, PNG)])[0]
    view, upright = reply.envelope.view, (6000, 4000) if orientation == 1 else (4000, 6000)
    assert (view.image_width, view.image_height) == upright
    assert (view.left, view.top, view.right, view.bottom) == pytest.approx(tiny.preprocessing.view(*upright))
    body, _ = reply.render(PNG)
    assert len(body) <= 10**6
    shown = np.asarray(Image.open(io.BytesIO(body))).astype(int)
    height, width = shown.shape[0], shown.shape[1] // 2
    assert width / height == pytest.approx(upright[0] / upright[1], abs=0.01)
    dark, light = shown[height // 2, : width // 2 - 5], shown[height // 2, width // 2 + 5 : width]
    if orientation == 6:
        dark, light = shown[: height // 2 - 5, width // 2], shown[height // 2 + 5 :, width // 2]
    assert np.median(light) > np.median(dark) + 60


@pytest.mark.parametrize("count", [1, 3, 12])
def test_many_maps_are_drawn_smaller_so_that_they_fit(service: ExplainService, count: int) -> None:
    wish = json.dumps({"saliency": ["guided"] * count}).encode()
    photograph = png(0, 1200, 800)
    body, media_type = service.answer([RawRequest(photograph, None, wish, PNG)])[0].render(PNG)
    assert media_type == PNG
    assert len(body) <= Limits().response_bytes
    width, height = Image.open(io.BytesIO(body)).size
    assert width / count / height == pytest.approx(1.5, abs=0.02)
    assert 256 <= width / count <= 1024
    assert (width / count == 1024) == (count < 3)


def test_json_carries_little_endian_tensors(service: ExplainService) -> None:
    import base64

    body, _ = service.answer([RawRequest(png(0), None, b'{"saliency": ["gradient"]}', JSON)])[0].render(JSON)
    values = json.loads(body)["saliency"][0]["values"]
    array = np.frombuffer(base64.b64decode(values["data"]), "<f4").reshape(values["shape"])
    want = tensors.decode(ask(service, {"saliency": ["gradient"]}).saliency[0].values)
    np.testing.assert_array_equal(array, want)


def test_an_unexpected_failure_is_told_by_an_id_only(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    service = ExplainService(tiny)
    secret = "cause that stays in the log"

    def fail(*_: object) -> None:
        raise RuntimeError(secret)

    monkeypatch.setattr(service.explainer, "forward", fail)
    replies = service.answer([RawRequest(image=png(0)), RawRequest(image=b"")])
    assert replies[0].envelope.error.code == pb.Error.INTERNAL
    assert replies[0].http == 500
    assert secret not in str(replies[0].envelope)
    assert replies[1].envelope.error.code == pb.Error.INVALID_ARGUMENT


def test_a_real_photograph(lite0: Model, chelsea_png: bytes, chelsea_probability: float) -> None:
    service = ExplainService(lite0)
    answer = ask(service, {"saliency": ["gradient", "guided", "grad_cam"]}, image=chelsea_png)
    assert answer.scores[0].label == "tiger cat"
    assert answer.scores[0].probability == pytest.approx(chelsea_probability, rel=1e-3)
    assert [m.method for m in answer.saliency] == ["gradient", "guided", "grad_cam"]
    assert all(torch.from_numpy(tensors.decode(m.values).copy()).isfinite().all() for m in answer.saliency)


@pytest.mark.parametrize(
    ("wish", "fitting"),
    [
        ({"method": "rise", "masks": 5000}, "masks 97 fits"),
        ({"method": "integrated_gradients", "steps": 400}, "steps 48 fits"),
        ({"method": "smoothgrad", "samples": 500}, "samples 48 fits"),
        ({"method": "occlusion", "window": 8, "stride": 1}, "stride 3 fits"),
        ({"method": "rise", "masks": 5000, "target": {"top": 2}}, "masks 48 fits"),
    ],
)
def test_a_costly_request_is_refused_before_the_work(
    tiny: Model, monkeypatch: pytest.MonkeyPatch, wish: dict[str, object], fitting: str
) -> None:
    service = ExplainService(tiny, Limits(passes=99))
    with monkeypatch.context() as patch:
        patch.setattr(service.explainer, "forward", lambda *_: pytest.fail("computed all the same"))
        error = ask(service, {"saliency": ["gradient", wish]}).error
    assert error.code == pb.Error.INVALID_ARGUMENT
    assert "99" in error.message
    assert fitting in error.message
    cost_parameter, value, _ = fitting.split()
    assert error.field == f"saliency[1].parameters.{cost_parameter}"
    assert len(ask(service, {"saliency": ["gradient", wish | {cost_parameter: int(value)}]}).saliency) >= 2
    more = int(value) - 1 if cost_parameter == "stride" else int(value) + 1
    assert ask(service, {"saliency": ["gradient", wish | {cost_parameter: more}]}).HasField("error")


def test_no_work_for_a_caller_who_is_gone(service: ExplainService) -> None:
    wish = {"saliency": [{"method": "rise", "masks": 2000}], "timeout": 1e-9}
    error = ask(service, wish).error
    assert error.code == pb.Error.DEADLINE_EXCEEDED
    for timeout in (-1, float("nan")):
        assert ask(service, {"timeout": timeout}).error.field == "timeout"


def test_methods_of_many_passes_report_what_they_did(service: ExplainService) -> None:
    wish = {"saliency": [{"method": "integrated_gradients", "steps": 12, "baseline": "white"}]}
    (saliency,) = ask(service, wish).saliency
    assert saliency.parameters["steps"].integer == 12
    assert saliency.parameters["baseline"].text == "white"
    assert saliency.measures["completeness_gap"] >= 0


def test_limits_come_from_the_environment() -> None:
    given = {"OUZEL_MAX_RESPONSE_BYTES": "2048", "OUZEL_MAX_PASSES": "7", "OUZEL_MEMORY_MB": "3"}
    assert Limits.from_environment(given) == Limits(response_bytes=2048, passes=7, memory_bytes=3 * 2**20)
    assert Limits.from_environment({}) == Limits.from_environment(dict.fromkeys(given, "")) == Limits()
    for name, value in (
        ("OUZEL_MAX_RESPONSE_BYTES", "12"),
        ("OUZEL_MAX_PASSES", "-1"),
        ("OUZEL_MAX_PASSES", "many"),
        ("OUZEL_MEMORY_MB", "1.5"),
    ):
        with pytest.raises(InvalidArgument, match=name):
            Limits.from_environment({name: value})


def test_the_memory_granted_reaches_the_engine(tiny: Model) -> None:
    def rows(limits: Limits) -> int:
        explainer = ExplainService(tiny, limits).explainer
        return explainer.prepare(torch.zeros(tiny.input_shape)).rows_per_pass({"plain"})

    assert rows(Limits()) > rows(Limits(memory_bytes=1)) == 1


class Scarce(nn.Module):
    """A network on a device whose memory suffices for `most` rows; counts the batches that it has computed."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most = network, most
        self.batches: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory (as torch words it)")
        self.batches.append(len(x))
        return self.network(x)


@pytest.mark.parametrize(("most", "batches"), [(8, [5]), (2, [2, 1, 2]), (1, [1] * 5)])
def test_what_does_not_fit_is_computed_in_halves(
    most: int, batches: list[int], tiny: Model, service: ExplainService, monkeypatch: pytest.MonkeyPatch
) -> None:
    scarce = ExplainService(tiny)
    prepared = scarce.explainer.prepare(torch.zeros(tiny.input_shape))
    network = Scarce(prepared.network, most)
    monkeypatch.setattr(scarce.explainer, "_prepared", dataclasses.replace(prepared, network=network))
    requests = [RawRequest(image=png(seed), options='{"saliency": ["gradient"], "top_k": 4}') for seed in range(5)]
    answers = [reply.envelope for reply in scarce.answer(requests)]
    assert network.batches == batches
    for answer, request in zip(answers, requests, strict=True):
        alone = service.answer([request])[0].envelope
        assert not answer.HasField("error")
        assert [score.label for score in answer.scores] == [score.label for score in alone.scores]
        (got,), (want,) = answer.saliency, alone.saliency
        np.testing.assert_allclose(tensors.decode(got.values), tensors.decode(want.values), atol=1e-5 * want.maximum)
    assert answers[0].timing.batch_size == 5


def test_a_row_that_does_not_fit_is_refused_and_the_next_is_answered(
    tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    scarce = ExplainService(tiny)
    prepared = scarce.explainer.prepare(torch.zeros(tiny.input_shape))
    network = Scarce(prepared.network, 0)
    monkeypatch.setattr(scarce.explainer, "_prepared", dataclasses.replace(prepared, network=network))
    replies = scarce.answer([RawRequest(image=png(seed), options='{"request_id": "r"}') for seed in range(3)])
    assert {(reply.envelope.error.code, reply.http) for reply in replies} == {(pb.Error.RESOURCE_EXHAUSTED, 429)}
    assert all(reply.envelope.request_id == "r" and not reply.envelope.scores for reply in replies)
    network.most = 3
    assert len(ask(scarce).scores) == 4
