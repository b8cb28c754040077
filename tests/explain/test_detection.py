"""Detectors behind the service: boxes in pixels of the image, targets, limits, refusals, pictures."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.explain import JSON, PNG, PROTOBUF, ExplainService, Limits, RawRequest
from ouzel.explain.pool import PoolService
from ouzel.explain.recording import facts
from ouzel.model_file import archives
from ouzel.models.detection import candidates, select
from ouzel.saliency.boxes import BoxSaliency, DetectionExplainer, GivenBox
from ouzel.saliency.targets import Rank
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb
from support import detectors, segmenters
from support.detectors import EDGE, LABELS

WIDE, HIGH = 192, 96  # of a picture: twice the model's width, and its height


@pytest.fixture(scope="module")
def model():
    return detectors.model()


@pytest.fixture(scope="module")
def service(model):
    return ExplainService(model)


@pytest.fixture(scope="module")
def explainer(model):
    return DetectionExplainer(model)


def file(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def answers(service, asked):
    rows = [
        RawRequest(
            image=file(detectors.picture(seed)),
            options=raw.SerializeToString() if isinstance(raw, pb.ExplainOptions) else json.dumps(raw),
        )
        for raw, seed in asked
    ]
    return [reply.envelope for reply in service.answer(rows)]


def ask(service, options=None, seed=0):
    return answers(service, [(options or {}, seed)])[0]


def sound(answer):
    assert not answer.HasField("error"), answer.error.message
    return answer


def plain(model, seed=0):
    """Input and detections of a picture."""
    x = model.preprocessing(Image.fromarray(detectors.picture(seed)))[None]
    with torch.no_grad():
        (found,) = select(candidates(model.network(x), model.network, (EDGE, EDGE)), model.network.rules)
    return x, found


def test_boxes_are_in_pixels_of_the_image(service, model):
    _, found = plain(model)
    answer = sound(ask(service))
    assert len(answer.detected.detections) == answer.detected.found == len(found) > 3
    assert answer.model.task == "detection"
    assert not answer.scores
    for mine, box, label, score in zip(
        answer.detected.detections, found.boxes, found.labels, found.scores, strict=True
    ):
        left, top, right, bottom = box.tolist()
        expected = [2 * left, top, 2 * right, bottom]  # stretched from 192 to 96 pixels
        assert [mine.box.left, mine.box.top, mine.box.right, mine.box.bottom] == pytest.approx(expected, abs=0.05)
        assert (mine.index, mine.label) == (int(label), LABELS[int(label)])
        assert mine.score == pytest.approx(float(score), rel=1e-4)


def test_fewer_on_request_and_the_count_says_so(service):
    everything = sound(ask(service)).detected
    two = sound(ask(service, {"top_k": 2})).detected
    assert list(two.detections) == list(everything.detections[:2])
    assert two.found == everything.found
    least = everything.detections[3].score
    some = sound(ask(service, pb.ExplainOptions(min_score=least))).detected
    assert list(some.detections) == [each for each in everything.detections if each.score >= least]
    none = sound(ask(service, {"min_score": 1.0}))
    assert none.HasField("detected")
    assert not none.detected.detections


def test_maps_are_the_librarys(service, model, explainer):
    x, found = plain(model)
    box = (20.0, 10.0, 160.0, 80.0)
    options = {
        "saliency": [
            {"method": "d_rise", "masks": 6, "seed": 2, "target": {"rank": 1}},
            {"method": "d_rise", "masks": 6, "seed": 2, "target": {"class": "goat", "box": list(box)}},
            {"method": "gradient", "target": {"top": 2}},
            {"method": "grad_cam"},
        ]
    }
    answer = sound(ask(service, options))
    expected = explainer(
        x,
        [
            BoxSaliency("d_rise", Rank(1), masks=6, seed=2),
            BoxSaliency("d_rise", GivenBox("goat", (10.0, 10.0, 80.0, 80.0)), masks=6, seed=2),
            BoxSaliency("gradient", Rank(0)),
            BoxSaliency("gradient", Rank(1)),
            BoxSaliency("grad_cam"),
        ],
    ).maps[0]
    assert len(answer.saliency) == 5
    for one, theirs in zip(answer.saliency, expected, strict=True):
        assert one.method == theirs.method
        np.testing.assert_allclose(tensors.decode(one.values), theirs.values.numpy(), rtol=2e-4, atol=1e-6)
    given, detected = answer.saliency[1].target, answer.saliency[0].target
    assert [given.box.left, given.box.top, given.box.right, given.box.bottom] == pytest.approx(box)
    assert (given.index, given.label) == (2, "goat")
    assert not given.HasField("rank")
    assert not given.HasField("score")
    assert detected.rank == 1
    assert detected.score == pytest.approx(float(found.scores[1]), rel=1e-4)
    assert detected.box == answer.detected.detections[1].box
    assert [each.target.rank for each in answer.saliency[2:]] == [0, 1, 0]
    assert answer.saliency[0].measures["similarity"] > 0


def test_rows_of_a_batch_succeed_and_fail_alone(service):
    many = {"saliency": [{"method": "gradient", "target": {"rank": 299}}]}
    first, second, third = answers(service, [({"saliency": ["gradient"]}, 0), (many, 1), ({"saliency": ["guided"]}, 2)])
    alone = ask(service, {"saliency": ["gradient"]}, 0)
    np.testing.assert_allclose(
        tensors.decode(first.saliency[0].values), tensors.decode(alone.saliency[0].values), rtol=1e-3, atol=1e-5
    )
    assert second.error.field == "saliency[0].target"
    assert second.error.code == pb.Error.FAILED_PRECONDITION
    assert "rank 299: the model has" in second.error.message
    assert not second.HasField("detected")
    assert sound(third).saliency


def test_a_map_at_the_size_of_the_image(service):
    answer = sound(ask(service, {"saliency": [{"method": "d_rise", "masks": 2, "size": "original"}]}))
    assert tensors.decode(answer.saliency[0].values).shape == (HIGH, WIDE)


def d_rise(target: object = None, **more: object) -> dict:
    return {"saliency": [{"method": "d_rise", **({} if target is None else {"target": target}), **more}]}


def boxed(*edges: float, name: object = 1) -> dict:
    return d_rise({"class": name, "box": list(edges)})


AT = "saliency[0]"
REFUSED = [
    ({"saliency": ["rise"]}, f"{AT}.method", "'rise'"),
    (d_rise("goat"), f"{AT}.target", "a class alone names no box"),
    (d_rise({"contrast": [1, 2]}), f"{AT}.target", "a detector has none"),
    (d_rise({"box": [0, 0, 9, 9]}), f"{AT}.target.region", "a box needs its class"),
    (d_rise({"class": 1, "pixel": [1, 1]}), f"{AT}.target.region", "no pixel and no mask"),
    (boxed(0, 0, 193, 9), f"{AT}.target.region.box", "right 193 is not within 0..192"),
    (boxed(0, -1, 9, 9), f"{AT}.target.region.box", "top -1 is not within 0..96"),
    (boxed(9, 0, 9, 9), f"{AT}.target.region.box", "has no area"),
    (boxed(0, 0, 9, 9, name="cow"), f"{AT}.target", "cow"),
    (boxed(0, 0, 9, 9, name=0), f"{AT}.target", "class 0 is the background"),
    (
        {"saliency": [{"method": "gradient", "target": {"class": 1, "box": [0, 0, 9, 9]}}]},
        f"{AT}.target",
        "ask for d_rise",
    ),
    (d_rise(faithfulness=8), f"{AT}.faithfulness", "is a detector; curves of faithfulness need a classifier"),
    ({"when": {"labels": ["goat"]}}, "when", "is a detector; conditions need a classifier"),
    ({"min_score": 1.5}, "min_score", "1.5 is not within 0..1"),
    ({"top_k": 301}, "top_k", "301"),
    (d_rise(masks=5000), f"{AT}.parameters.masks", "5001 passes through the network, the limit is 2048; masks 2047"),
]


@pytest.mark.parametrize(("options", "field", "told"), REFUSED)
def test_refusals_name_field_and_limit(service, options, field, told):
    error = ask(service, options).error
    assert error.field == field
    assert told in error.message


def test_a_box_that_is_not_finite_is_refused(service):
    region = pb.Region(box=pb.Region.Box(left=0, top=0, right=float("nan"), bottom=9))
    target = pb.Target(index=1, region=region)
    error = ask(service, pb.ExplainOptions(saliency=[pb.SaliencyRequest(method="d_rise", target=target)])).error
    assert "0, 0, nan, 9 are not four finite numbers" in error.message


def test_an_estimate_counts_the_masks(service):
    estimate = sound(ask(service, {"estimate_only": True, "saliency": [{"method": "d_rise", "masks": 40}, "gradient"]}))
    assert estimate.estimate.passes == 1 + 40 + 1


@pytest.mark.parametrize("media_type", [JSON, PROTOBUF])
def test_an_answer_is_no_larger_than_its_estimate(model, media_type):
    network = detectors.network()
    network.rules = dataclasses.replace(network.rules, score=0.0)
    service = ExplainService(detectors.model(network))
    image = file(detectors.picture(0))

    def reply(options: dict) -> object:
        request = RawRequest(image=image, options=json.dumps(options), media_type=media_type)
        return service.answer([request])[0]

    asked = {"saliency": [{"method": "d_rise", "masks": 1}]}
    estimate = reply({"estimate_only": True, **asked}).envelope.estimate
    answer = reply(asked)
    assert answer.envelope.detected.found == 300
    assert len(answer.render(media_type)[0]) <= estimate.response_bytes


def test_a_classifier_takes_no_least_score():
    service = ExplainService(segmenters.model())
    request = RawRequest(image=file(segmenters.picture(0)), options=b'{"min_score": 0.5}')
    error = service.answer([request])[0].envelope.error
    assert (error.field, "is a segmentation model; least scores need a detector" in error.message) == (
        "min_score",
        True,
    )


def test_the_deadline_holds_between_masks(model):
    service = ExplainService(model, Limits(memory_bytes=1, passes=20_000))
    error = ask(service, {"timeout": 0.05, "saliency": [{"method": "d_rise", "masks": 10_000}]}).error
    assert error.code == pb.Error.DEADLINE_EXCEEDED


def test_pictures_show_boxes(service):
    def drawn(options):
        request = RawRequest(image=file(detectors.picture(0)), options=json.dumps(options), media_type=PNG)
        (reply,) = service.answer([request])
        body, media_type = reply.render(PNG)
        assert media_type == PNG
        return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))

    nothing, found = drawn({"min_score": 1.0}), drawn({"top_k": 1})
    np.testing.assert_array_equal(nothing, detectors.picture(0))
    changed = np.argwhere((nothing != found).any(axis=2))
    box = sound(ask(service, {"top_k": 1})).detected.detections[0].box
    assert abs(changed[:, 1].max() - round(box.right)) <= 40  # its frame, or its label
    assert drawn({"saliency": [{"method": "d_rise", "masks": 2}]}).shape == (HIGH, WIDE, 3)


def test_an_entry_of_the_log_holds_what_was_found(service):
    asked = pb.ExplainOptions(top_k=2, saliency=[pb.SaliencyRequest(method="gradient")])
    answer = sound(ask(service, asked))
    kept = facts(asked, answer, "image")
    assert kept["detected"]["found"] == answer.detected.found
    assert [each["label"] for each in kept["detected"]["detections"]] == [
        each.label for each in answer.detected.detections
    ]
    assert kept["maps"][0]["box"] == kept["detected"]["detections"][0]["box"]


def test_two_stages_are_served_with_d_rise_alone():
    network, _ = detectors.faster_rcnn()
    model = dataclasses.replace(
        detectors.model(network.float()),
        preprocessing=dataclasses.replace(detectors.PREPROCESSING, input_size=(64, 64), resize=96),
    )
    service = ExplainService(model)
    service.warm_up(2)
    answer = sound(ask(service, {"saliency": [{"method": "d_rise", "masks": 3}]}))
    assert answer.detected.found > 0
    assert tensors.decode(answer.saliency[0].values).shape == (64, 64)
    error = ask(service, {"saliency": ["gradient"]}).error
    assert "This detector has two stages" in error.message
    assert error.field == "saliency[0].method"


def test_the_pool_answers_as_a_process_of_its_own(tmp_path):
    path = detectors.archived(tmp_path)
    (archived,) = archives([path])
    request = RawRequest(
        image=file(detectors.picture(0)),
        options=b'{"top_k": 3, "saliency": ["guided", {"method": "d_rise", "masks": 2}]}',
    )
    pool, service = PoolService(), ExplainService(models.load(path))
    try:
        (mine,), (theirs,) = pool.answer([(archived, request)]), service.answer([request])
    finally:
        pool.close()
    assert sound(mine.envelope).detected == sound(theirs.envelope).detected
    assert len(mine.envelope.detected.detections) == 3
    assert [each.target for each in mine.envelope.saliency] == [each.target for each in theirs.envelope.saliency]


def test_a_detector_computes_exactly_whatever_is_set(model, monkeypatch):
    monkeypatch.setenv("OUZEL_PRECISION", "bf16")
    assert sound(ask(ExplainService(model), {})).model.precision == "exact"


# -- where classes of images are needed --------------------------------------------------------------------------------


def test_audits_trust_reports_and_tuning_of_classifiers_need_a_classifier(model):
    from ouzel.audit.predictor import ModelPredictor
    from ouzel.finetune import finetune
    from ouzel.trust.report import trust

    with pytest.raises(FailedPrecondition, match="model: 'finds' is a detector; audits need a classifier"):
        ModelPredictor(model)
    with pytest.raises(FailedPrecondition, match="'finds' is a detector; trust reports need a classifier"):
        trust(model, [])
    with pytest.raises(FailedPrecondition, match="base: 'finds' is a detector; recipes need a classifier"):
        finetune(model, [])


def test_maximization_and_search_refuse_a_detector(model):
    from ouzel.maximize import Channel, ClassLogit, maximize, search

    for node in (ClassLogit(1), Channel("backbone.model.layer1", 0)):
        with pytest.raises(FailedPrecondition, match="model: it is a detector, whose candidates are no nodes"):
            maximize(model, [node])
    with pytest.raises(FailedPrecondition, match="model: it is a detector"):
        search(model, [ClassLogit(1)], [("grey", torch.full((3, EDGE, EDGE), 0.5))])
