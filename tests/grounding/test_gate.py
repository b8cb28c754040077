"""The gate over real audits, of predictors that are known to rest on objects or on backgrounds."""

from __future__ import annotations

from functools import cache

import pytest

from ouzel.audit.dataset import DatasetEvidence, audit_dataset
from ouzel.errors import InvalidArgument
from ouzel.finetune import Example, Split
from ouzel.grounding import AccuracyPairs, GateMargins, audited_images, check_apart, check_images, judge
from support.audited import LABELS, Flat, Known, by_border, by_object, example, pictures

MARGINS = GateMargins()
DESIGN = MARGINS.design(3)
EQUAL = AccuracyPairs(0, 0, 300, 300)


@cache
def audited(at: str, wrong: float = 0.0, count: int = 8) -> DatasetEvidence:
    """Of a predictor that looks at the object or at the border alone. wrong: how often it answers by lot."""
    asked = Known({"object": by_object, "border": by_border}[at], wrong=wrong)
    shown = [example(each, true_label=each.label, held_out=True) for each in pictures(count, seed=1)]
    return audit_dataset(asked, Flat(), shown, DESIGN)


def failed(verdict: object) -> set[str]:
    return {each.name for each in verdict.checks if not each.passed}  # type: ignore[attr-defined]


def test_one_that_goes_by_the_background_does_not_follow_one_that_does_not() -> None:
    verdict = judge(MARGINS, DESIGN, audited("border"), accuracy=EQUAL, present=audited("object"), against="animals@1")
    assert not verdict.passed
    assert failed(verdict) == {"reliance", "classes"}
    assert "significantly more" in verdict.reason
    assert all(repr(label) in verdict.reason for label in LABELS)
    told = verdict.to_dict()
    assert (told["passed"], told["against"], told["accuracy_margin"], told["scenes"]) == (False, "animals@1", 0.02, [])
    assert told["design_sha256"] == DESIGN.sha256()


def test_one_that_goes_by_the_object_follows_either() -> None:
    for present in ("object", "border"):
        verdict = judge(MARGINS, DESIGN, audited("object"), accuracy=EQUAL, present=audited(present), against="a@1")
        assert verdict.passed, verdict.reason


def test_no_worse_than_a_bad_default_is_not_worse() -> None:
    verdict = judge(MARGINS, DESIGN, audited("border"), accuracy=EQUAL, present=audited("border"), against="a@1")
    assert verdict.passed, verdict.reason


def test_the_accuracy_counts_alone_too() -> None:
    less = AccuracyPairs(0, 30, 270, 300)
    verdict = judge(MARGINS, DESIGN, audited("object"), accuracy=less, present=audited("object"), against="a@1")
    assert failed(verdict) == {"accuracy"}
    assert verdict.reason.startswith("The new version is right on 270 of 300")


def test_a_first_version_is_held_against_the_margin() -> None:
    assert judge(MARGINS, DESIGN, audited("object")).passed
    verdict = judge(MARGINS, DESIGN, audited("border"))
    assert failed(verdict) == {"reliance", "classes"}
    assert verdict.against == ""
    few = judge(MARGINS, DESIGN, audited("object", count=3))
    assert failed(few) == {"reliance"}  # 9 images cannot show it


def test_one_that_answers_by_lot_does_not_cope_with_any_change() -> None:
    verdict = judge(MARGINS, DESIGN, audited("object", wrong=0.95))
    assert not verdict.passed
    assert "reliance" in failed(verdict)


def test_classes_that_are_places_may_rest_on_their_background() -> None:
    places = GateMargins(scenes=LABELS)
    asked = Known(by_border)
    shown = [example(each, true_label=each.label, held_out=True) for each in pictures(8, seed=1)]
    evidence = audit_dataset(asked, Flat(), shown, places.design(3))
    verdict = judge(places, places.design(3), evidence)
    assert "classes" not in failed(verdict)
    assert "reliance" in failed(verdict)  # nothing else is left that it could be tried on


def test_audits_of_other_images_or_designs_are_not_compared() -> None:
    with pytest.raises(InvalidArgument, match="other images"):
        judge(MARGINS, DESIGN, audited("object"), accuracy=EQUAL, present=audited("object", count=3))
    with pytest.raises(InvalidArgument, match="another design"):
        judge(MARGINS, MARGINS.design(4), audited("object"))


def images(count: int, label: str = "a", *, known: bool = True) -> list[Example]:
    return [
        Example(f"{label}{n}{known}", label, f"{label}{n}", lambda: b"", boxes=((0, 0, 1, 1),) if known else ())
        for n in range(count)
    ]


def test_only_images_with_a_known_object_are_audited_and_as_many_of_each_class() -> None:
    assert audited_images([*images(3, known=False), *images(2)], 0) == tuple(images(2))
    drawn = audited_images([*images(900), *images(40, "b")], 7)
    assert (len(drawn), sum(each.label == "b" for each in drawn)) == (500, 40)
    assert drawn == audited_images([*images(40, "b"), *reversed(images(900))], 7)
    assert drawn != audited_images([*images(900), *images(40, "b")], 8)


@pytest.mark.parametrize(
    ("held_out", "first", "field", "said"),
    [
        (images(30) + images(30, "b"), False, "accuracy_margin", "217 are needed"),
        (images(5) + images(5, "b") + images(300, known=False), False, "reliance_margin", "10 held-out images"),
        (images(19, "b"), True, "reliance_margin", "they can show 0.206"),
        (images(300), True, "promote", "are of one class"),
        (images(300, known=False), True, "reliance_margin", "0 held-out images"),
    ],
)
def test_images_that_cannot_show_it_are_refused_beforehand(
    held_out: list[Example], first: bool, field: str, said: str
) -> None:
    with pytest.raises(InvalidArgument, match=said) as caught:
        check_images(held_out, audited_images(held_out, 0), MARGINS, first=first)
    assert caught.value.field == field


def test_enough_images_are_taken() -> None:
    some = images(15) + images(15, "b")
    check_images(some, audited_images(some, 0), MARGINS, first=True)
    check_images(some, audited_images(some, 0), GateMargins(accuracy_margin=0.2), first=False)


def test_images_that_are_learnt_from_are_no_test() -> None:
    images = [Example(str(number), "a", f"{number:064}", bytes) for number in range(4)]
    check_apart(Split(tuple(images[:2]), (images[2],), (images[3],)))
    for train, validation in ((images[3:], ()), ((), images[3:])):
        with pytest.raises(InvalidArgument, match="1 of the held-out images are for training as well, '3' for one"):
            check_apart(Split(tuple(train), tuple(validation), (images[3],)))
