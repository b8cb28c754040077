"""The audit of one prediction, on models whose reliance is known because they are made so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from audit.scenes import EDGE, LABELS, Stub, by_nothing, by_object, by_place, scene
from ouzel import models
from ouzel.audit import (
    AnswerMaps,
    Claim,
    Margins,
    ModelMaps,
    ModelPredictor,
    Pool,
    PredictionEvidence,
    PredictionOptions,
    Scene,
    audit_prediction,
    most_pictures,
)
from ouzel.audit.faithfulness import faithfulness
from ouzel.audit.predictor import check_probabilities
from ouzel.audit.reported import compare
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.metrics import deletion

QUICK = PredictionOptions(steps=0)
POOL = Pool([Scene(f"{label}-{n}", label, *scene(label, label, 100 + n)) for label in LABELS for n in range(4)])


def audited(logits, label="sheep", place="sheep", seed=0, *, masked=True, pool=POOL, **options) -> PredictionEvidence:
    stub = Stub(logits)
    picture, mask = scene(label, place, seed)
    claim = Claim(label, mask if masked else None, scene=options.pop("scene", False))
    return audit_prediction(
        stub, AnswerMaps(stub), Image.fromarray(picture), claim, replace(QUICK, **options), pool=pool
    )


@pytest.mark.parametrize("label", LABELS)
def test_a_model_that_looks_at_the_place_rests_on_the_background(label):
    for seed in range(8):
        evidence = audited(by_place, label, label, seed)
        assert evidence.verdict == "rests_on_background", evidence.reason
        assert evidence.concern


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("place", LABELS)
def test_a_model_that_looks_at_the_object_rests_on_it_wherever_it_stands(label, place):
    for seed in range(4):
        evidence = audited(by_object, label, place, seed)
        assert evidence.verdict == "rests_on_object", evidence.reason
        assert not evidence.concern


def test_a_model_that_says_the_same_of_everything_is_not_acquitted():
    evidence = audited(by_nothing)
    assert evidence.verdict == "inconclusive"
    assert all(abs(each.effect) < 1e-9 for each in evidence.effects)


def test_a_model_that_needs_both_is_inconclusive():
    def by_both(picture):
        return np.eye(3)[0 if by_place(picture).argmax() == by_object(picture).argmax() == 0 else 1] * 9

    evidence = audited(by_both)
    assert evidence.verdict == "inconclusive"
    assert "outweighs" in evidence.reason


def test_a_scene_may_rest_on_its_background():
    evidence = audited(by_place, scene=True)
    assert (evidence.verdict, evidence.concern) == ("rests_on_background", False)


def test_another_prediction_disagrees_and_keeps_its_evidence():
    evidence = audited(by_place, "sheep", "goat")
    assert evidence.verdict == "disagrees"
    assert evidence.concern
    assert evidence.agreement.predicted.label == evidence.agreement.rival.label == "goat"
    assert evidence.outcomes
    assert "'goat'" in evidence.reason


@pytest.mark.parametrize("logits", [by_place, by_object])
def test_without_a_mask_no_verdict_convicts(logits):
    evidence = audited(logits, masked=False)
    assert (evidence.verdict, evidence.mask_source) == ("inconclusive", "nominated")
    assert any("weaker" in limit for limit in evidence.limits)


def test_boxes_stand_for_a_mask_and_the_limits_say_so():
    stub = Stub(by_object)
    picture, mask = scene("sheep", "goat", 0)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    evidence = audit_prediction(
        stub, AnswerMaps(stub), Image.fromarray(picture), Claim("sheep", boxes=[box]), QUICK, pool=POOL
    )
    assert (evidence.verdict, evidence.mask_source) == ("rests_on_object", "boxes")
    assert evidence.mask.sum() == (box[2] - box[0]) * (box[3] - box[1])
    assert any("Boxes" in limit for limit in evidence.limits)


def test_a_control_that_fails_leaves_no_verdict():
    """A model that goes by one pixel of the background: rearranged, that is lost, too."""

    def by_a_pixel(picture):
        return np.array([30.0, 0, 0]) if tuple(picture[1, 1]) == marked else np.array([0, 30.0, 0])

    picture, mask = scene("sheep", "sheep", 0)
    marked = tuple(picture[1, 1])
    stub = Stub(by_a_pixel)
    evidence = audit_prediction(stub, AnswerMaps(stub), Image.fromarray(picture), Claim("sheep", mask), QUICK)
    assert evidence.verdict == "inconclusive"
    assert "control" in evidence.reason


def test_margins_are_part_of_the_evidence_and_decide():
    strict = audited(by_place, margins=Margins(effect=1.0))
    assert strict.verdict == "inconclusive"
    assert strict.to_dict()["margins"] == {"effect": 1.0, "control": 0.1}


def test_an_audit_repeats_itself_exactly_and_its_record_is_json():
    first, second = (audited(by_place, steps=4) for _ in range(2))
    assert json.dumps(first.to_dict(), allow_nan=False) == json.dumps(second.to_dict(), allow_nan=False)
    assert all((a.picture == b.picture).all() for a, b in zip(first.outcomes, second.outcomes, strict=True))


def test_effects_are_what_the_outcomes_say():
    evidence = audited(by_place)
    for effect in evidence.effects:
        if effect.change == "background":
            same = [o for o in evidence.outcomes if o.change in ("rearranged", "same_background")]
        else:
            control = {"object": "elsewhere", "other_object": "same_object"}[effect.change]
            same = [o for o in evidence.outcomes if (o.change, o.kind) == (control, effect.kind)]
        changed = [o for o in evidence.outcomes if (o.change, o.kind) == (effect.change, effect.kind)]
        after, control = (np.mean([o.probability for o in some]) for some in (changed, same))
        assert effect.effect == pytest.approx((control - after) / max(control, after))
        assert effect.flips == np.mean([o.flipped for o in changed])
        assert effect.pictures == len(changed)


def test_the_map_of_answers_finds_what_the_model_looks_at():
    for logits, inside in ((by_object, True), (by_place, False)):
        claim = next(each for each in audited(logits, seed=3).maps if each.of == "claim")
        assert (claim.share_on_object > 0.5) == inside


def test_a_model_of_ours_is_audited_with_its_own_maps():
    model = small_model()
    predictor = ModelPredictor(model)
    picture, mask = scene("sheep", "sheep", 0)
    index = int(predictor(predictor.view.picture(Image.fromarray(picture))[None])[0].argmax())
    evidence = audit_prediction(
        predictor,
        ModelMaps(model, model.labels, "gradient"),
        Image.fromarray(picture),
        Claim(f"index:{index}", mask),
        replace(QUICK, steps=4),
        pool=POOL,
    )
    assert [each.of for each in evidence.maps] == ["claim", "rival", "contrast"]
    assert evidence.source.digest == "sha256:0"
    x = model.preprocessing(Image.fromarray(picture))[None]
    expected = models.probabilities(model.network(x).double())[0, index]
    assert evidence.agreement.claimed.probability == pytest.approx(float(expected))
    x.requires_grad_()
    model.network(x)[0, index].backward()
    slow = x.grad[0].abs().amax(0).numpy()
    np.testing.assert_allclose(evidence.maps[0].values, slow, rtol=1e-3, atol=slow.max() * 1e-4)


def small_model() -> models.Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.freeze(models.build("timm:test_resnet", num_classes=3, in_channels=3))
    preprocessing = models.Preprocessing(input_size=(64, 64), resize=64)
    return models.Model("small", "1", network, LABELS, preprocessing, "timm:test_resnet", "sha256:0", {})


def test_faithfulness_is_that_of_the_metrics():
    """The metrics ask a network about tensors; the audit asks anybody about pictures of whole grey levels."""
    model = small_model()
    predictor = ModelPredictor(model)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    values = np.random.default_rng(1).random((64, 64), dtype=np.float32)
    measured = faithfulness(
        lambda pictures: predictor(pictures)[:, 1], picture, values, steps=8, random_orders=3, seed=0
    )
    x, map_ = predictor.normalised(picture[None])[0], torch.from_numpy(values)
    for mode in ("deletion", "insertion"):
        expected = deletion.area(model.network, x, map_, 1, mode, steps=8)
        assert getattr(measured, mode) == pytest.approx(expected, abs=2e-3)


def test_a_faithful_map_beats_random_orders():
    stub = Stub(by_object)
    picture, _ = scene("sheep", "goat", 0)
    values = np.zeros((EDGE, EDGE), dtype=np.float32)
    values[EDGE // 2 - 4 : EDGE // 2 + 4, EDGE // 2 - 4 : EDGE // 2 + 4] = 1
    assert faithfulness(lambda p: stub(p)[:, 0], picture, values, steps=16, random_orders=3, seed=0).better_than_random
    assert not faithfulness(
        lambda p: stub(p)[:, 0], picture, -values, steps=16, random_orders=3, seed=0
    ).better_than_random


@pytest.mark.parametrize(("steps", "orders", "scenes"), [(0, 1, 4), (2, 1, 0), (16, 2, 3)])
def test_the_most_pictures_are_those_that_are_shown(steps, orders, scenes):
    stub, options = Stub(by_object), PredictionOptions(steps=steps, random_orders=orders, scenes=scenes)
    picture, mask = scene("sheep", "sheep", 0)
    audit_prediction(stub, AnswerMaps(stub), Image.fromarray(picture), Claim("sheep", mask), options, pool=POOL)
    assert stub.asked == most_pictures(options, scenes=len(POOL.scenes), by_answers=True)


class TestReportedMaps:
    picture, mask = scene("sheep", "sheep", 0)

    def test_they_are_compared_where_the_model_looks(self):
        random = np.random.default_rng(0)
        ours, theirs = random.random((EDGE, EDGE)), random.random((EDGE, EDGE))
        view = Stub(by_place).view
        told = compare(theirs, ours.astype(np.float32), view, EDGE, EDGE)
        assert told.rank_correlation == pytest.approx(
            stats.spearmanr(ours.astype(np.float32).ravel(), theirs.astype(np.float32).ravel()).statistic
        )
        assert compare(ours, ours.astype(np.float32), view, EDGE, EDGE).top_overlap == 1
        assert compare(-ours, ours.astype(np.float32), view, EDGE, EDGE).rank_correlation == pytest.approx(1)

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            (np.full((EDGE, EDGE), np.nan), "not finite"),
            (np.ones((EDGE, EDGE)), "the same"),
            (np.random.default_rng(0).random((EDGE, 2 * EDGE)), "proportions"),
            (np.random.default_rng(0).random((3, EDGE, EDGE)), "shape"),
            (np.arange(EDGE * EDGE).reshape(EDGE, EDGE), "floats"),
        ],
    )
    def test_others_are_refused(self, values, words):
        stub = Stub(by_place)
        claim = Claim("sheep", self.mask, reported_map=values)
        with pytest.raises(InvalidArgument, match=words) as caught:
            audit_prediction(stub, AnswerMaps(stub), Image.fromarray(self.picture), claim, QUICK)
        assert caught.value.field == "reported_map"
        assert stub.asked == 0


@pytest.mark.parametrize(
    ("claim", "field"),
    [
        (Claim("horse"), "label"),
        (Claim("sheep", np.ones((EDGE, EDGE), bool)), "mask"),
        (Claim("sheep", np.zeros((EDGE, EDGE), bool)), "mask"),
        (Claim("sheep", np.zeros((EDGE, EDGE + 1), bool)), "mask"),
        (Claim("sheep", np.zeros((EDGE, EDGE), np.uint8)), "mask"),
        (Claim("sheep", np.zeros((EDGE, EDGE), bool), boxes=[(0, 0, 1, 1)]), "boxes"),
        (Claim("sheep", boxes=[(0, 0, 5, 5), (5, 5, 4, 9)]), "boxes[1]"),
        (Claim("sheep", boxes=[(0, 0, EDGE + 1, 5)]), "boxes[0]"),
        (Claim("sheep", boxes=[(0, 0, EDGE, EDGE)]), "boxes"),
    ],
)
def test_claims_that_cannot_be_are_refused(claim, field):
    stub = Stub(by_place)
    with pytest.raises(InvalidArgument) as caught:
        audit_prediction(stub, AnswerMaps(stub), Image.fromarray(scene("sheep", "sheep", 0)[0]), claim, QUICK)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"fills": ()}, "fills"),
        ({"fills": ("blur", "blur")}, "fills"),
        ({"fills": ("blurr",)}, "fills"),
        ({"scenes": 33}, "scenes"),
        ({"steps": 1}, "steps"),
        ({"random_orders": 0}, "random_orders"),
        ({"margins": Margins(effect=0.0)}, "margins.effect"),
        ({"margins": Margins(control=float("nan"))}, "margins.control"),
        ({"seed": -1}, "seed"),
    ],
)
def test_options_out_of_range_are_refused(options, field):
    with pytest.raises(InvalidArgument) as caught:
        PredictionOptions(**options)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "answer",
    [
        np.array([[0.5, np.nan]]),
        np.array([[0.5, 0.6]]),
        np.array([[-0.1, 0.5]]),
        np.array([[5.0, -3.0]]),
        np.array([[0.5, 0.5], [0.5, 0.5]]),
        np.array([["a", "b"]]),
        np.array([[True, False]]),
    ],
)
def test_answers_that_are_no_probabilities_are_refused(answer):
    with pytest.raises(FailedPrecondition, match=r"^stub:"):
        check_probabilities(answer, 1, 2, "stub")


def test_one_class_is_nothing_to_audit():
    model = replace(small_model(), labels=("only",))
    with pytest.raises(FailedPrecondition, match="one class"):
        ModelPredictor(model)
