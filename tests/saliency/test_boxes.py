"""Maps of detectors' boxes against slow, plain re-implementations, in float64."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel.saliency import METHODS as CLASSIFIERS
from ouzel.saliency.boxes import METHODS, BoxSaliency, DetectionExplainer, GivenBox
from ouzel.saliency.boxes.request import BoxPlan
from ouzel.saliency.targets import Contrast, Rank, Top
from support import detectors
from support.detectors import plain_iou

from .test_more_methods import masks_of_rise

ONE_STAGE = {"ssd": detectors.ssd, "retinanet": detectors.retinanet}
MAKERS = ONE_STAGE | {"faster_rcnn": detectors.faster_rcnn}
BOX = (8.0, 12.0, 40.0, 44.0)


@pytest.fixture(scope="module", params=MAKERS)
def any_detector(request):
    network, theirs = MAKERS[request.param]()
    return network, DetectionExplainer(network), theirs


@pytest.fixture(scope="module", params=ONE_STAGE)
def one_stage(request):
    network, theirs = ONE_STAGE[request.param]()
    return network, DetectionExplainer(network), theirs


@pytest.fixture(scope="module")
def two_stage():
    network, _ = detectors.faster_rcnn()
    return DetectionExplainer(network)


# -- D-RISE ------------------------------------------------------------------------------------------------------------


def considered(network, image, label):
    """Boxes, class probabilities and objectness of all candidates of an image, box by box."""
    answer = network(image[None])[0, :, :, 0].T.tolist()
    rows = []
    for values in answer:
        logits, edges, level = values[: network.classes], values[network.classes : -1], values[-1]
        if level < 0:
            continue
        if network.background:
            exps = [math.exp(value - max(logits)) for value in logits]
            probabilities = [one / sum(exps) for one in exps]
            objectness, probabilities[0] = 1 - probabilities[0], 0.0
        else:
            probabilities = [1 / (1 + math.exp(-value)) for value in logits]
            objectness = max(probabilities)
        first = 4 * label if len(edges) > 4 else 0
        rows.append(([64 * edge for edge in edges[first : first + 4]], probabilities, objectness))
    return rows


def plain_similarity(box, vector, rows):
    best = 0.0
    for theirs, probabilities, objectness in rows:
        length = math.hypot(*vector) * math.hypot(*probabilities)
        cosine = sum(a * b for a, b in zip(vector, probabilities, strict=True)) / length if length else 0.0
        best = max(best, plain_iou(box, theirs) * cosine * objectness)
    return best


def plain_d_rise(network, image, label, box, vector, masks):
    total = torch.zeros(64, 64, dtype=torch.float64)
    for mask in masks:
        total += plain_similarity(box, vector, considered(network, image * mask, label)) * mask
    return total / (len(masks) * 0.5)


@torch.no_grad()
def test_d_rise_is_the_mean_of_masks_weighted_by_what_is_still_detected(any_detector):
    network, explainer, theirs = any_detector
    x = detectors.pictures()
    asked = [
        [BoxSaliency("d_rise", Rank(1), masks=9, seed=4), BoxSaliency("d_rise", GivenBox(2, BOX), masks=9, seed=4)],
        [],
        [BoxSaliency("d_rise", Rank(0), masks=9, seed=4)],
    ]
    answer = explainer(x, asked)
    masks = masks_of_rise(9, 7, 0.5, 4, 64, 64).double()
    detections = theirs(list(x))
    for row, requests in enumerate(asked):
        assert len(answer.maps[row]) == len(requests)
        for request, made in zip(requests, answer.maps[row], strict=True):
            if isinstance(request.target, Rank):
                place = request.target.place
                label = int(detections[row]["labels"][place])
                box = detections[row]["boxes"][place].tolist()
                among = considered(network, x[row], label)
                mine = max(
                    among, key=lambda one, box=box, label=label: (plain_iou(one[0], box) > 0.9999) * one[1][label]
                )
                vector = mine[1]
            else:
                label, box, vector = 2, BOX, [float(index == 2) for index in range(4)]
            expected = plain_d_rise(network, x[row], label, box, vector, masks)
            torch.testing.assert_close(made.values, expected, rtol=1e-5, atol=1e-9)
            assert made.target.index == label
            assert made.target.box == pytest.approx(box, abs=1e-5)
            now = plain_similarity(box, vector, considered(network, x[row], label))
            assert made.measures["similarity"] == pytest.approx(now, rel=1e-6)


def test_rows_of_a_batch_are_explained_as_they_are_alone(any_detector):
    network, explainer, _ = any_detector
    x = detectors.pictures(3, seed=5)
    requests = [BoxSaliency("d_rise", Rank(0), masks=7), BoxSaliency("d_rise", GivenBox(1, BOX), masks=7)]
    if network.shared:
        requests += [BoxSaliency("gradient", Rank(2)), BoxSaliency("integrated_gradients", Rank(0), steps=3)]
    together = explainer(x, requests)
    for row in range(3):
        alone = explainer(x[row : row + 1], requests)
        torch.testing.assert_close(together.detections[row].boxes, alone.detections[0].boxes)
        for one, other in zip(together.maps[row], alone.maps[0], strict=True):
            assert one.target.index == other.target.index
            torch.testing.assert_close(one.values, other.values)


def test_a_small_memory_gives_the_same_map():
    network, _ = detectors.faster_rcnn()
    x, asked = detectors.pictures(2), [BoxSaliency("d_rise", masks=11)]
    small, large = (DetectionExplainer(network, memory_bytes=each)(x, asked) for each in (1, 2**30))
    for row in range(2):
        torch.testing.assert_close(small.maps[row][0].values, large.maps[row][0].values)


# -- gradients ---------------------------------------------------------------------------------------------------------


def anchor_score(network, image, place, label):
    return network(image[None])[0, label, place, 0]


def anchor_of(network, image, detection, number):
    """Of all candidates the one whose box and probability are the detection's."""
    with torch.no_grad():
        rows = considered(network, image, int(detection["labels"][number]))
    label, score, box = (detection[name][number].tolist() for name in ("labels", "scores", "boxes"))
    (place,) = [
        place
        for place, (edges, probabilities, _) in enumerate(rows)
        if math.isclose(probabilities[label], score, rel_tol=1e-9) and edges == pytest.approx(box, abs=1e-6)
    ]
    return place, label


def test_the_gradient_is_that_of_the_logit_of_the_anchor_that_gave_the_box(one_stage):
    network, explainer, theirs = one_stage
    x = detectors.pictures()
    with torch.no_grad():
        detections = theirs(list(x))
    asked = [[BoxSaliency("gradient", Rank(row), "none"), BoxSaliency("gradient", Rank(3), "none")] for row in range(3)]
    answer = explainer(x, asked)
    for row in range(3):
        for made, number in zip(answer.maps[row], (row, 3), strict=True):
            place, label = anchor_of(network, x[row], detections[row], number)
            image = x[row].clone().requires_grad_()
            (gradient,) = torch.autograd.grad(anchor_score(network, image, place, label), image)
            torch.testing.assert_close(made.values, gradient, rtol=1e-7, atol=1e-10)
            assert made.values.abs().max() > 0
            assert (made.target.index, made.target.candidate, made.target.place) == (label, place, number)
            assert made.target.score == pytest.approx(float(detections[row]["scores"][number]))
            assert made.target.box == pytest.approx(detections[row]["boxes"][number].tolist(), abs=1e-6)


def test_the_gradient_is_what_differences_of_the_score_show(one_stage):
    network, explainer, _ = one_stage
    x = detectors.pictures(1, seed=9)
    (made,) = explainer(x, [BoxSaliency("gradient", Rank(0), "none")]).maps[0]
    channel, row, column = (int(i) for i in torch.unravel_index(made.values.abs().argmax(), made.values.shape))
    step, ends = 1e-6, []
    for sign in (1, -1):
        moved = x[0].clone()
        moved[channel, row, column] += sign * step
        with torch.no_grad():
            ends.append(float(anchor_score(network, moved, made.target.candidate, made.target.index)))
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float(made.values[channel, row, column]), rel=1e-4)


def test_guided_maps_pass_positive_gradients_alone(one_stage):
    network, explainer, _ = one_stage
    x = detectors.pictures(1)
    (made,) = explainer(x, [BoxSaliency("guided", Rank(0), "none")]).maps[0]

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            ctx.save_for_backward(value)
            return value.clamp_min(0)

        @staticmethod
        def backward(ctx, gradient):
            (value,) = ctx.saved_tensors
            return gradient.clamp_min(0) * (value > 0)

    class Rule(nn.Module):
        def forward(self, value):
            return Guided.apply(value)

    slow = copy.deepcopy(network)
    for name, module in list(slow.named_modules()):
        if isinstance(module, nn.ReLU):
            slow.set_submodule(name, Rule())
    image = x[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(anchor_score(slow, image, made.target.candidate, made.target.index), image)
    torch.testing.assert_close(made.values, gradient, rtol=1e-7, atol=1e-10)
    assert made.rectified > 0


def test_grad_cam_looks_at_the_layer_that_all_levels_come_from(one_stage):
    network, explainer, _ = one_stage
    x = detectors.pictures(2)
    answer = explainer(x, [BoxSaliency("grad_cam", Rank(0))])
    for row in range(2):
        (made,) = answer.maps[row]
        kept = {}

        def keep(_module, _inputs, output, kept=kept):
            output.requires_grad_()
            kept["layer"] = output

        handle = network.get_submodule(made.parameters["layer"]).register_forward_hook(keep)
        score = anchor_score(network, x[row], made.target.candidate, made.target.index)
        handle.remove()
        (gradient,) = torch.autograd.grad(score, kept["layer"])
        plain = (gradient.mean(dim=(2, 3), keepdim=True) * kept["layer"]).sum(dim=1, keepdim=True).clamp_min(0)
        plain = nn.functional.interpolate(plain.detach(), size=(64, 64), mode="bilinear", align_corners=False)[0, 0]
        assert made.parameters["layer"].startswith("backbone.fine.")
        assert "layer_cam weights each place" in made.caveats[-1]
        torch.testing.assert_close(made.values, plain, rtol=1e-6, atol=1e-10)


def test_a_layer_that_the_boxs_level_does_not_come_from_is_refused(one_stage):
    _, explainer, _ = one_stage
    x = detectors.pictures(1)
    answers = {}
    for place in range(len(explainer(x, []).detections[0])):
        (answer,) = explainer(x, [BoxSaliency("grad_cam", Rank(place), layer="backbone.coarse.1")]).maps
        answers[place] = answer
    refused = [one for one in answers.values() if isinstance(one, FailedPrecondition)]
    assert 0 < len(refused) < len(answers)
    assert "does not depend on 'backbone.coarse.1', which its level of the pyramid does not come from" in str(
        refused[0]
    )
    assert refused[0].field == "saliency[0].layer"


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"d_rise"}))
def test_what_cannot_be_differentiated_faithfully_is_refused(two_stage, method):
    with pytest.raises(FailedPrecondition, match=r"This detector has two stages: .* ask for d_rise"):
        two_stage(detectors.pictures(1), [BoxSaliency(method)])


def test_rise_is_for_classifiers_and_d_rise_for_detectors():
    assert set(CLASSIFIERS) ^ set(METHODS) == {"rise", "d_rise"}
    with pytest.raises(InvalidArgument, match="method: 'rise'"):
        BoxSaliency("rise")


@pytest.mark.parametrize("maker", ONE_STAGE.values())
def test_a_rank_beyond_the_detections_is_that_rows_error_alone(maker):
    network, _ = maker()
    x = detectors.pictures(2)
    second = DetectionExplainer(network)(x, []).detections[1]
    network.rules = replace(network.rules, score=float(second.scores[2]))
    explainer = DetectionExplainer(network)
    answer = explainer(
        x,
        [
            [BoxSaliency("d_rise", GivenBox(1, BOX), masks=2)],
            [BoxSaliency("d_rise"), BoxSaliency("gradient", Rank(2))],
        ],
    )
    assert len(answer.detections[1]) == 2
    assert len(answer.maps[0]) == 1
    assert isinstance(answer.maps[1], FailedPrecondition)
    assert answer.maps[1].field == "saliency[1].target"
    assert "rank 2: the model has 2 detections in this image" in str(answer.maps[1])


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (Rank(-1), "rank -1 is not an integer in 0..19"),
        (Rank(20), "rank 20 is not an integer in 0..19"),
        (Rank(True), "rank True is not an integer"),
        (GivenBox(4, BOX), "class index 4 is not an integer in 0..3"),
        (GivenBox(1, (8.0, 12.0, 8.0, 40.0)), "has no area"),
        (GivenBox(1, (8.0, 12.0, math.nan, 40.0)), "in finite numbers"),
        (GivenBox(1, (64.0, 0.0, 80.0, 20.0)), "lies outside of what the model sees, 64 x 64 pixels"),
        (GivenBox(1, (1.0, 2.0, 3.0)), "is not left, top, right, bottom"),
        ("cat", "neither a detection nor a box"),
        (Contrast(1, 2), "it has no contrasts and no other regions"),
        (Top(21), "top 21 is not an integer in 1..20"),
    ],
)
def test_targets_that_make_no_sense_are_refused(one_stage, target, told):
    _, explainer, _ = one_stage
    with pytest.raises(InvalidArgument, match=told) as caught:
        explainer(detectors.pictures(1), [BoxSaliency("d_rise", target, masks=1)])
    assert caught.value.field == "saliency[0].target"


def test_the_background_has_no_boxes_and_a_given_box_no_anchor():
    network, _ = detectors.ssd()
    explainer = DetectionExplainer(network)
    with pytest.raises(InvalidArgument, match="class 0 is the background"):
        explainer(detectors.pictures(1), [BoxSaliency("d_rise", GivenBox(0, BOX))])
    with pytest.raises(InvalidArgument, match="no single place of the network stands for a box that is given"):
        explainer(detectors.pictures(1), [BoxSaliency("gradient", GivenBox(1, BOX))])
    with pytest.raises(NotFound, match="layer"):
        explainer(detectors.pictures(1), [BoxSaliency("grad_cam", layer="backbone.nowhere")])


def test_nobody_computes_for_a_caller_who_has_left(any_detector):
    _, explainer, _ = any_detector
    asked = [BoxSaliency("d_rise", masks=50)]
    answer = explainer(detectors.pictures(2), [asked, asked], over=[lambda: True, lambda: True])
    assert [type(one).__name__ for one in answer.maps] == ["DeadlineExceeded"] * 2
    answer = explainer(detectors.pictures(2), [asked, asked], over=[lambda: True, None])
    assert len(answer.maps[1]) == 1


def test_an_answer_that_is_not_finite_is_refused(any_detector):
    network, _, _ = any_detector
    broken = copy.deepcopy(network)
    with torch.no_grad():
        next(broken.backbone.parameters())[0] = torch.nan
    (answer,) = DetectionExplainer(broken)(
        detectors.pictures(1), [BoxSaliency("d_rise", GivenBox(1, BOX), masks=1)]
    ).maps
    assert isinstance(answer, FailedPrecondition)
    assert "not finite" in str(answer)


def test_a_plan_tells_the_passes(one_stage):
    _, explainer, _ = one_stage
    plan = explainer.plan(
        [
            BoxSaliency("d_rise", Rank(0), masks=30),
            BoxSaliency("d_rise", Rank(1), masks=30),
            BoxSaliency("gradient", Rank(0)),
            BoxSaliency("guided", Rank(0)),
        ],
        64,
        64,
    )
    assert isinstance(plan, BoxPlan)
    assert plan.passes == 1 + 30 + 2


def test_layer_cam_is_zero_where_the_anchor_does_not_see_the_layer(one_stage):
    network, explainer, _ = one_stage
    x = detectors.pictures(1, seed=3)
    (made,) = explainer(x, [BoxSaliency("layer_cam", Rank(0))]).maps[0]
    kept = {}

    def keep(_module, _inputs, output):
        output.requires_grad_()
        kept["layer"] = output

    handle = network.get_submodule(made.parameters["layer"]).register_forward_hook(keep)
    score = anchor_score(network, x[0], made.target.candidate, made.target.index)
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept["layer"])
    plain = (gradient.clamp_min(0) * kept["layer"]).sum(dim=1, keepdim=True).clamp_min(0).detach()
    plain = nn.functional.interpolate(plain, size=(64, 64), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(made.values, plain, rtol=1e-6, atol=1e-10)
    assert not made.caveats
