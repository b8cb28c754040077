"""Changed pictures differ where they say that they do, and their controls in as many pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.scenes import EDGE, mask_of, scene
from ouzel.audit.counterfactuals import Others, counterfactuals, elsewhere, rearranged
from ouzel.audit.fills import KINDS, fills, smooth
from ouzel.audit.pool import Pool, Scene, paste

OTHERS = [Scene(f"goat-{n}", "goat", *scene("goat", "goat", 50 + n)) for n in range(2)]


@pytest.fixture(scope="module")
def made():
    picture, mask = scene("sheep", "sheep", 1)
    return picture, mask, counterfactuals(picture, mask, fills(KINDS), Others(OTHERS, OTHERS, OTHERS, OTHERS))


def test_every_name_is_there_once(made):
    names = [each.name for each in made[2]]
    assert len(set(names)) == len(names) == 3 + 3 * 5 + 4 * 2


def test_nothing_else_changes(made):
    picture, mask, changed = made
    for each in changed:
        differs = (each.picture != picture).any(2)
        if each.change in ("background", "rearranged", "same_background"):
            assert not (differs & mask).any()
            assert each.changed == (~mask).sum()
        elif each.change == "object":
            assert not (differs & ~mask).any()
            assert each.changed == mask.sum()
        elif each.change == "elsewhere":
            assert not (differs & mask).any()
            assert each.changed == mask.sum() >= differs.sum()


def test_a_replaced_background_holds_nothing_of_the_old_one(made):
    picture, mask, changed = made
    for each in changed:
        if each.change == "background" and each.kind in ("texture", "scene"):
            same = (each.picture == picture).all(2) & ~mask
            assert same.sum() < 0.02 * (~mask).sum()  # equal by chance


def test_the_blur_holds_no_colour_of_the_object():
    picture = np.full((40, 40, 3), 10, np.uint8)
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    picture[mask] = (250, 0, 0)
    assert (smooth(picture, ~mask) == 10).all()


@pytest.mark.parametrize("pixels", [1, 30])
def test_a_background_of_a_few_pixels_is_blurred_to_their_colour(pixels):
    picture = np.full((224, 224, 3), 200, np.uint8)
    background = np.zeros((224, 224), bool)
    background.flat[:pixels] = True
    picture[background] = (10, 20, 30)
    assert (smooth(picture, background) == (10, 20, 30)).all()


@pytest.mark.parametrize("number", range(3))
def test_a_rearranged_background_has_the_colours_of_the_background(number):
    random = np.random.default_rng(0)
    mask = mask_of(2)
    picture = np.where(mask[..., None], 255, random.integers(0, 100, (EDGE, EDGE, 3))).astype(np.uint8)
    result = rearranged(picture, mask, number)
    known = {tuple(pixel) for pixel in picture[~mask]}
    assert all(tuple(pixel) in known for pixel in result[~mask])
    assert (result[mask] == 255).all()
    assert ((result == picture).all(2) & ~mask).sum() < 0.05 * (~mask).sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.02, 0.95))
def test_elsewhere_never_touches_the_object(seed, share):
    random = np.random.default_rng(seed)
    rows, columns = random.integers(4, 40, 2)
    mask = random.random((rows, columns)) < share
    mask.flat[0], mask.flat[-1] = True, False
    other = elsewhere(mask)
    assert not (other & mask).any()
    assert other.sum() <= mask.sum()


def test_elsewhere_is_as_large_where_there_is_room():
    mask = np.zeros((30, 50), bool)
    mask[5:15, 10:25] = True
    assert elsewhere(mask).sum() == mask.sum()


def test_a_pasted_object_has_the_size_and_the_place_of_the_other():
    picture, mask = scene("sheep", "sheep", 3)
    other = Scene("red", "goat", np.full((90, 120, 3), (255, 0, 0), np.uint8), np.zeros((90, 120), bool))
    other.mask[10:70, 30:90] = True
    pasted = (paste(other, picture, mask) == (255, 0, 0)).all(2)
    assert pasted.sum() == pytest.approx(mask.sum(), rel=0.1)
    middles = [np.array(np.nonzero(each)).mean(1) for each in (pasted, mask)]
    assert np.abs(middles[0] - middles[1]).max() < 1.5


@pytest.mark.parametrize("shape", [(3, 90), (90, 3), (1, 1)])
def test_objects_of_any_shape_can_be_pasted(shape):
    picture, mask = scene("sheep", "sheep", 3)
    other = Scene("odd", "goat", np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), bool))
    other.mask[: shape[0], : shape[1]] = True
    assert paste(other, picture, mask).shape == picture.shape


def test_a_pool_draws_others_in_turns_and_never_the_image_itself():
    pool = Pool(
        [Scene(f"{label}{n}", label, *scene(label, label, n)) for label in ("sheep", "goat", "cow") for n in range(3)]
    )
    drawn = pool.draw("sheep", False, 4, (0, 0))
    assert sorted(each.label for each in drawn) == ["cow", "cow", "goat", "goat"]
    assert [each.name for each in drawn] == [each.name for each in pool.draw("sheep", False, 4, (0, 0))]
    assert {each.name for each in pool.draw("sheep", True, 9, (0, 0), besides="sheep1")} == {"sheep0", "sheep2"}
