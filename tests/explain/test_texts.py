"""Texts that callers send: as targets, in conditions, and what is no text at all."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ouzel.explain import JSON, PNG, ExplainService, Limits, RawRequest, hosted
from ouzel.explain.options import parse
from ouzel.explain.plan import make_plan
from ouzel.models import Model
from ouzel_protos.v1 import explain_pb2 as pb
from support.pictures import png


def ask(service: ExplainService, options: object = None) -> pb.Explanation:
    raw = options.SerializeToString() if isinstance(options, pb.ExplainOptions) else json.dumps(options or {})
    return service.answer([RawRequest(image=png(0), options=raw)])[0].envelope


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"saliency": [{"method": "gradient", "target": "\ud800"}]}, "saliency[0].target"),
        ({"saliency": [{"method": "rise", "target": {"contrast": [0, "\udfff"]}}]}, "saliency[0].target.contrast[1]"),
        ({"saliency": ["\ud800"]}, "saliency[0]"),
        ({"saliency": [{"method": "\ud800"}]}, "saliency[0].method"),
        ({"saliency": [{"method": "grad_cam", "layer": "\ud800"}]}, "saliency[0].layer"),
        ({"saliency": [{"method": "grad_cam", "\ud800": 1}]}, "saliency[0]"),
        ({"saliency": [{"method": "gradient", "target": {"\ud800": 1}}]}, "saliency[0].target"),
        ({"saliency": [{"method": "gradient", "reduction": "\ud800"}]}, "saliency[0].reduction"),
        ({"when": {"labels": ["\ud800"]}}, "when.labels"),
        ({"request_id": "\ud800"}, "request_id"),
        ({"\ud800": 1}, "options"),
    ],
)  # fmt: skip
def test_halves_of_characters_are_the_callers_error(service: ExplainService, options: object, field: str) -> None:
    """As JSON spells them, as bytes that are no UTF-8, and in a header that was read with them."""
    for raw in (
        json.dumps(options),
        json.dumps(options, ensure_ascii=False).encode("utf-8", "surrogatepass"),
        json.dumps(options, ensure_ascii=False),
    ):
        (reply,) = service.answer([RawRequest(image=png(0), options=raw)])
        assert (reply.http, reply.envelope.error.field) == (400, field)
        for media_type in (JSON, PNG, "application/x-protobuf"):
            assert reply.render(media_type)[0]


def test_a_body_of_json_that_is_no_text(service: ExplainService) -> None:
    """TorchServe hands it over decoded: it fails alone, not with all of its batch."""
    request = hosted.request_of({"body": "\ud800"}, {"host": "here"})
    assert service.answer([request])[0].http in (400, 415)


@pytest.mark.parametrize("number", [1, 1.0])
def test_whole_numbers_of_json_may_have_a_point(service: ExplainService, number: float) -> None:
    answer = ask(service, {"top_k": number, "saliency": [{"method": "gradient", "target": number}]})
    assert len(answer.scores) == 1
    assert answer.saliency[0].target.index == 1
    assert ask(service, {"top_k": number + 0.5}).error.field == "top_k"


def test_whole_numbers_as_parameters_may_be_doubles(service: ExplainService) -> None:
    message = pb.ExplainOptions()
    parameters = message.saliency.add(method="smoothgrad").parameters
    parameters["samples"].number, parameters["noise"].number = 2.0, 1.0
    document = {"saliency": [{"method": "smoothgrad", "samples": 2.0, "noise": 1.0}]}
    for options in (message, document):
        (saliency,) = ask(service, options).saliency
        assert saliency.parameters["samples"].integer == 2
        assert saliency.parameters["noise"].number == 1.0
    for wrong in (2.5, 1e300):
        parameters["samples"].number = wrong
        assert ask(service, message).error.field == "saliency[0].parameters.samples"


@pytest.fixture(scope="module")
def numbered(tiny: Model) -> ExplainService:
    """Labels that are digits, one in Unicode's composed form, and one that two classes share."""
    return ExplainService(replace(tiny, labels=("1", "10", "Caf\u00e9", "10")))


@pytest.mark.parametrize(
    ("target", "index"),
    [(1, 1), ("index:1", 1), ("label:1", 0), ("2", 2), ("3", 3), ("Cafe\u0301", 2), ("cafe\u0301", 2), ("index:3", 3)],
)
def test_texts_and_numbers_as_targets(numbered: ExplainService, target: object, index: int) -> None:
    other = next(each for each in (0, 2) if each != index)
    asked: list[object] = [target, {"contrast": [target, other]}]
    maps = ask(numbered, {"saliency": [{"method": "gradient", "target": each} for each in asked]}).saliency
    assert [one.target.index for one in maps] == [index, index]
    wire = pb.Target(label=target) if isinstance(target, str) else pb.Target(index=target)  # type: ignore[arg-type]
    message = pb.ExplainOptions(saliency=[pb.SaliencyRequest(method="gradient", target=wire)])
    assert ask(numbered, message).saliency[0].target.index == index


@pytest.mark.parametrize(
    ("target", "told"),
    [("1", "'label:1' (class 0, '1') or 'index:1' (class 1, '10')"), ("10", "classes 1, 3"), ("4", "0..3")],
)
def test_texts_that_are_not_clear(numbered: ExplainService, target: str, told: str) -> None:
    for wish in (target, {"contrast": ["Caf\u00e9", target]}):
        error = ask(numbered, {"saliency": [{"method": "gradient", "target": wish}]}).error
        assert (error.code, error.field) == (pb.Error.INVALID_ARGUMENT, "saliency[0].target")
        assert told in error.message


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(["Cafe\u0301"], {2}), (["label:1"], {0}), (["10"], {1, 3}), (["index:3"], {3}), (["2", "label:10"], {1, 2, 3})],
)
def test_conditions_on_labels_name_classes_alike(
    numbered: ExplainService, monkeypatch: pytest.MonkeyPatch, labels: list[str], classes: set[int]
) -> None:
    options = json.dumps({"saliency": ["gradient"], "when": {"labels": labels}})
    best = ask(numbered).scores[0].index
    assert bool(ask(numbered, {"saliency": ["gradient"], "when": {"labels": labels}}).saliency) == (best in classes)
    wishes = parse(options)
    plan = make_plan(wishes, numbered._served, pb.View(image_width=9, image_height=9), Limits())
    assert plan.when is not None
    assert plan.when.classes == classes
    assert ask(numbered, {"when": {"labels": ["1"]}}).error.field == "when.labels"


@pytest.mark.parametrize("data", [b"\xff", b"\x08", b"\x12\xff", b"garbage"])
def test_bytes_that_are_no_message(service: ExplainService, data: bytes) -> None:
    for request, field in (
        (RawRequest(image=png(0), options=data), "options"),
        (RawRequest(tensor=data), "tensor"),
    ):
        (reply,) = service.answer([request])
        assert (reply.http, reply.envelope.error.field) == (400, field)
        assert not {"google", "ouzel.v1", "pb2", "DecodeError"} & set(reply.envelope.error.message.split("'"))
        assert "arsing" not in reply.envelope.error.message
