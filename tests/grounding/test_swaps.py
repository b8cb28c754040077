"""The pictures that a repair learns from: balanced, made by the audit's own code, and never of held-out images."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ouzel import models
from ouzel.audit import Scene
from ouzel.audit.counterfactuals import Others, counterfactuals
from ouzel.errors import InvalidArgument
from ouzel.finetune import Example, Split, make_recipe, split
from ouzel.grounding.plan import NEUTRAL, plan
from ouzel.grounding.swaps import Swaps, neutral
from ouzel.models import Preprocessing
from support.audited import Picture, pictures

VIEW = Preprocessing(input_size=(32, 32), resize=32)


def known(one: Picture, *, masked: bool = True) -> Example:
    content, mask = one.png(), io.BytesIO()
    Image.fromarray(np.where(one.mask, 255, 0).astype(np.uint8)).save(mask, "PNG")
    return Example(
        one.name,
        one.label,
        hashlib.sha256(content).hexdigest(),
        lambda: content,
        read_mask=mask.getvalue if masked else None,
    )


@pytest.mark.parametrize(
    ("images", "per_class"),
    [({"a": 5, "b": 40}, 30), ({"a": 1, "b": 1, "c": 2}, 41), (dict.fromkeys("abcdefgh", 3), 8)],
)
def test_classes_and_backgrounds_are_balanced(images: dict[str, int], per_class: int) -> None:
    swaps = plan(images, per_class, (0,))
    groups = Counter((each.label, each.background) for each in swaps)
    of_class = Counter(each.label for each in swaps)
    assert of_class == dict.fromkeys(images, per_class)
    for label in images:
        counts = [groups[label, background] for background in (*images, NEUTRAL)]
        assert max(counts) - min(counts) <= 1
    assert [each.number for each in swaps] == list(range(len(swaps)))
    for each in swaps:
        assert 0 <= each.image < images[each.label]
        assert each.source is None or 0 <= each.source < images[each.background]
        assert (each.background == NEUTRAL) <= (each.source is None)
        if each.background == each.label and images[each.label] > 1:
            assert each.source != each.image


def test_each_object_and_each_background_comes_as_often() -> None:
    swaps = [each for each in plan({"a": 7, "b": 4}, 84, (1,)) if (each.label, each.background) == ("a", "b")]
    assert set(Counter(each.image for each in swaps).values()) == {4}
    assert set(Counter(each.source for each in swaps).values()) == {7}


def test_images_come_as_they_are_once_each() -> None:
    own = [each for each in plan({"a": 7, "b": 4}, 84, (1,)) if (each.label, each.background) == ("a", "a")]
    assert Counter(each.source is None for each in own) == {True: 7, False: 21}
    assert len({each.image for each in own if each.source is None}) == 7


def test_plans_depend_on_the_seed_alone() -> None:
    assert plan({"a": 7, "b": 4}, 20, (1,)) == plan({"b": 4, "a": 7}, 20, (1,)) != plan({"a": 7, "b": 4}, 20, (2,))


def parts() -> Split:
    return split([known(each) for each in pictures(12, seed=2)], make_recipe("debias", {}), 0)


def test_nothing_of_a_held_out_image_is_learnt_from() -> None:
    """Not even if it is looked for pixel by pixel: of each picture the object and the background are found."""
    own = parts()
    made = Swaps(60, seed=0)(own, VIEW)
    assert made.test == own.test
    for part, images in (("train", own.train), ("validation", own.validation)):
        names = {each.name for each in images}
        for each in getattr(made, part):
            object_of, _, behind = each.name.partition(" before ")
            assert object_of in names
            assert behind in names or behind in ("", NEUTRAL)
    held_out = [_pixels(each) for each in own.test]
    for each in (*made.train, *made.validation):
        shown = _pixels(each)
        assert max(float((shown == other).all(-1).mean()) for other in held_out) < 0.1


def test_held_out_images_are_not_even_shown() -> None:
    """Their files are not read."""

    def never() -> bytes:
        raise AssertionError("a held-out image was read")

    own = parts()
    closed = Split(own.train, own.validation, tuple(replace(each, read=never, read_mask=never) for each in own.test))
    assert Swaps(20, seed=0)(closed, VIEW).test == closed.test


def _pixels(example: Example) -> np.ndarray:
    return np.asarray(models.decode(example.read()).convert("RGB"))


def test_they_are_the_pictures_of_an_audit() -> None:
    shown = pictures(12, seed=2)
    by_name = {each.name: Scene(each.name, each.label, each.pixels, each.mask) for each in shown}
    made = Swaps(60, seed=0)(parts(), VIEW).train
    swapped = [each for each in made if " before " in each.name and each.background != NEUTRAL]
    assert len(swapped) > 80
    for each in swapped[::7]:
        scene, behind = (by_name[name] for name in each.name.split(" before "))
        others = Others(backgrounds=[behind])
        (theirs,) = [x for x in counterfactuals(scene.picture, scene.mask, (), others) if x.change == "background"]
        assert np.array_equal(_pixels(each), theirs.picture)
        assert (each.label, each.background) == (scene.label, behind.label)


def test_the_digest_is_of_what_is_seen() -> None:
    """Features are remembered by it: another mask, another background or another seed is another picture."""
    made = Swaps(60, seed=0)(parts(), VIEW)
    digests = {each.sha256: _pixels(each).tobytes() for each in made.train}
    assert len(set(digests.values())) == len(digests)
    again = {each.sha256: _pixels(each).tobytes() for each in Swaps(60, seed=0)(parts(), VIEW).train}
    assert again == digests
    wider = [known(replace(each, mask=np.roll(each.mask, 1, 0))) for each in pictures(12, seed=2)]
    moved = Swaps(60, seed=0)(split(wider, make_recipe("debias", {}), 0), VIEW)
    same = digests.keys() & {each.sha256 for each in moved.train}
    assert not same


def test_images_without_a_region_are_left_out_and_a_class_without_any_is_refused() -> None:
    shown = pictures(40, seed=2)
    some = split([known(each, masked=n % 2 == 0) for n, each in enumerate(shown)], make_recipe("debias", {}), 0)
    with_region = {each.name for each in some.train if each.read_mask is not None}
    made = Swaps(60, seed=0)(some, VIEW)
    assert {each.name.partition(" before ")[0] for each in made.train} == with_region
    none = split([known(each, masked=each.label != "cow") for each in shown], make_recipe("debias", {}), 0)
    with pytest.raises(InvalidArgument, match="class 'cow' has no training image") as caught:
        Swaps(60, seed=0)(none, VIEW)
    assert caught.value.field == "dataset"


def test_a_larger_image_is_seen_whole() -> None:
    """Pictures have the model's own fineness, so that cutting the centre out of them gives what is served."""
    large = [
        replace(each, pixels=each.pixels.repeat(3, 0).repeat(3, 1), mask=each.mask.repeat(3, 0).repeat(3, 1))
        for each in pictures(12, seed=2)
    ]
    made = Swaps(30, seed=0)(split([known(each) for each in large], make_recipe("debias", {}), 0), VIEW)
    assert {_pixels(each).shape for each in made.train} == {(32, 32, 3)}


def test_neutral_backgrounds_differ_and_are_repeatable() -> None:
    first = neutral(20, 30, (0, 1))
    assert first.shape == (20, 30, 3)
    assert np.array_equal(first, neutral(20, 30, (0, 1)))
    assert not np.array_equal(first, neutral(20, 30, (0, 2)))
