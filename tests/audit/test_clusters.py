"""Clusters of like maps: found where a shortcut is planted, confirmed by moving it, else not."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ouzel.audit import AnswerMaps
from ouzel.audit.dataset import DatasetDesign, DatasetEvidence, audit_dataset
from ouzel.audit.dataset.clusters import alike, marked
from ouzel.audit.dataset.moves import Shown, away, move
from support.audited import EDGE, LABELS, MARK, Known, by_border, by_mark, by_object, examples, pictures

DESIGN = DatasetDesign(fills=("mean",), images=1, suspects=0, cluster_pairs=24)
MARKED = 6


def audit(score: Any, *, marked: int, masked: bool = True, seed: int = 0, **design: Any) -> DatasetEvidence:
    """Of 30 pictures of two classes each; maps are made by occlusion, as for a model that cannot be looked into."""
    predictor = Known(score)
    many = examples(pictures(30, seed, classes=2, marked=marked), masked=masked)
    return audit_dataset(predictor, AnswerMaps(predictor), many, dataclasses.replace(DESIGN, **design))


@pytest.fixture(scope="module")
def planted() -> DatasetEvidence:
    """A fifth of the sheep has a watermark, by which the predictor knows sheep."""
    return audit(by_mark, marked=MARKED)


def test_a_watermark_on_a_fifth_of_a_class_is_found_and_confirmed(planted: DatasetEvidence) -> None:
    with_mark = {f"sheep{number:03}" for number in range(MARKED)}
    confirmed = [each for each in planted.clusters if each.verdict == "confirmed"]
    assert confirmed
    for cluster in confirmed:
        assert cluster.label == "sheep"
        assert set(cluster.members) <= with_mark
        assert cluster.pasted is not None
        assert cluster.pasted.flips.share == 1
        assert cluster.pasted.control_flips.share == 0
        assert cluster.region[-1, -1]
        assert cluster.region.mean() < 0.2
        assert cluster.reason.startswith("The region carries the prediction, and is not the object.")
    assert {name for each in confirmed for name in each.members} == with_mark


def test_the_other_clusters_are_not_confirmed(planted: DatasetEvidence) -> None:
    for cluster in planted.clusters:
        if not cluster.members[0] <= f"sheep{MARKED - 1:03}" or cluster.label != "sheep":
            assert cluster.verdict != "confirmed", cluster.reason


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("score", [by_object, by_border])
def test_without_a_shortcut_no_cluster_is_confirmed(score: Any, seed: int) -> None:
    evidence = audit(score, marked=0, seed=seed, cluster_pairs=12)
    assert {each.label for each in evidence.clusters} == {"sheep", "goat"}
    assert all(each.verdict != "confirmed" for each in evidence.clusters)


def test_a_watermark_that_nobody_heeds_is_not_confirmed() -> None:
    evidence = audit(by_object, marked=MARKED)
    assert all(each.verdict != "confirmed" for each in evidence.clusters)


def test_where_the_object_is_unknown_no_cluster_is_confirmed() -> None:
    """The region could be the object itself, so it may carry the prediction."""
    evidence = audit(by_mark, marked=MARKED, masked=False, cluster_pairs=12)
    moved = [each for each in evidence.clusters if each.pasted is not None and each.pasted.excess == 1]
    assert moved
    assert {each.verdict for each in evidence.clusters} <= {"inconclusive", "cleared"}
    assert all(each.verdict == "inconclusive" and "may be the object" in each.reason for each in moved)


def test_every_image_is_in_one_cluster(planted: DatasetEvidence) -> None:
    names = [name for each in planted.clusters for name in each.members]
    assert sorted(names) == sorted(row.name for row in planted.rows if row.agrees)
    tests = [test for each in planted.clusters for test in (each.pasted, each.removed) if test is not None]
    assert all(each.test.adjusted_p >= each.test.p_value for each in tests)


def test_few_images_are_not_clustered() -> None:
    predictor = Known(by_object)
    evidence = audit_dataset(predictor, AnswerMaps(predictor), examples(pictures(4)), DESIGN)
    assert evidence.clusters == ()
    assert evidence.clusters_reason == "3 classes have fewer than 12 images with a map that the model takes for them."
    none = audit_dataset(
        predictor, AnswerMaps(predictor), examples(pictures(1)), dataclasses.replace(DESIGN, clusters=False)
    )
    assert none.clusters_reason == "No clusters were wanted."


def _blobs(centres: list[tuple[int, int]], each: int, seed: int = 0) -> np.ndarray:
    """Maps (N, 16, 16) with a sum of 1, `each` around every centre."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16]
    maps = [
        np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 6) + random.random((16, 16)) * 0.2
        for row, column in centres
        for _ in range(each)
    ]
    return np.stack([one / one.sum() for one in maps])


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_eigengap_finds_how_many_there_are(count: int) -> None:
    centres = [(3, 3), (12, 12), (3, 12), (12, 3), (8, 8)][:count]
    for seed in range(3):
        clusters = alike(_blobs(centres, 20, seed), 0)
        assert sorted(sorted(each.members) for each in clusters) == [
            list(range(20 * number, 20 * number + 20)) for number in range(count)
        ]


def test_clusters_are_the_same_again_and_of_any_order() -> None:
    maps = _blobs([(3, 3), (12, 12)], 15)
    first, second = alike(maps, 5), alike(maps, 5)
    assert [each.members for each in first] == [each.members for each in second]
    turned = alike(maps[::-1].copy(), 5)
    assert {frozenset(29 - n for n in each.members) for each in turned} == {frozenset(each.members) for each in first}


def test_maps_that_are_all_the_same_are_one_cluster() -> None:
    (only,) = alike(np.full((15, 16, 16), 1 / 256), 0)
    assert len(only.members) == 15


def test_a_region_is_what_the_mean_map_marks_beyond_the_others() -> None:
    mean, others = np.full((16, 16), 0.1), np.full((16, 16), 0.1)
    mean[2, 3], mean[10, 10], others[10, 10] = 0.9, 0.8, 0.8
    expected = np.zeros((16, 16), dtype=bool)
    expected[1:4, 2:5] = True  # with a rim of one place
    np.testing.assert_array_equal(marked(mean, others), expected)


def test_a_moved_region_leaves_objects_alone() -> None:
    donor_picture, onto_picture = np.full((EDGE, EDGE, 3), 200, np.uint8), np.full((EDGE, EDGE, 3), 50, np.uint8)
    mask = np.zeros((EDGE, EDGE), dtype=bool)
    mask[10:20, 10:20] = True
    region = np.zeros((16, 16), dtype=bool)
    region[4:12, 4:12] = True
    donor, onto = Shown.of(donor_picture, None), Shown.of(onto_picture, mask)
    made = move(region, donor, onto)
    assert (made.changed[onto.object] == 50).all()
    assert (made.control[onto.object] == 50).all()
    changed, control = (made.changed != 50).any(-1), (made.control != 50).any(-1)
    assert changed.sum() == pytest.approx((8 * EDGE / 16) ** 2 * made.outside)
    assert not (changed & control).any()
    assert (onto.object & ~mask).any()  # the rim


def test_a_region_goes_where_it_overlaps_least() -> None:
    """Against trying every shift."""
    random = np.random.default_rng(3)
    for _ in range(5):
        region, avoid = random.random((9, 7)) < 0.2, random.random((9, 7)) < 0.5
        least = min((np.roll(region, (a, b), (0, 1)) & avoid).sum() for a in range(9) for b in range(7))
        moved = away(region, avoid)
        assert moved.sum() == region.sum()
        assert (moved & avoid).sum() == least


def test_labels_and_marks_are_as_the_tests_take_them() -> None:
    one = pictures(1, marked=1)[0]
    assert one.label == LABELS[0]
    assert (one.pixels[-MARK:, -MARK:] == 255).all()
    assert not one.mask[-MARK:, -MARK:].any()
