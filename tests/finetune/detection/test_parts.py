"""The parts of a detector's training: loss against torchvision, boxes against their pixels, intervals against draws."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection.ssd import SSD

from ouzel.finetune.data import Example
from ouzel.finetune.detection.average_precision import Objects, average_precision, matches
from ouzel.finetune.detection.loss import box_loss
from ouzel.finetune.detection.network import Learner
from ouzel.finetune.detection.score import bootstrap, bootstrap_difference, box_score, rating
from ouzel.finetune.detection.variation import BoxedVariation, served_views
from ouzel.finetune.variation import Pixels, Variation
from ouzel.models import Preprocessing
from support import detectors

from .test_average_precision import scenes


def test_the_loss_is_that_of_torchvisions_ssd() -> None:
    network, theirs = detectors.ssd()
    theirs = theirs.train()
    x = detectors.pictures(2)
    targets = [
        {
            "boxes": torch.tensor([[4.0, 6.0, 30.0, 28.0], [20.0, 20.0, 50.0, 60.0]]).double(),
            "labels": torch.tensor([1, 3]),
        },
        {"boxes": torch.zeros(0, 4).double(), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    assert isinstance(theirs, SSD)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    expected = sum(theirs(list(x), targets).values())
    learner = _learner(network)
    torch.testing.assert_close(box_loss(learner, learner(x), targets), expected)


def test_what_a_learner_finds_is_what_the_detector_finds() -> None:
    from ouzel.models import detection

    network, _ = detectors.ssd()
    x = detectors.pictures(3)
    learner = _learner(network)
    size = (detectors.SIZE, detectors.SIZE)
    expected = detection.select(detection.candidates(network(x), network, size), network.rules)
    for mine, theirs in zip(learner.found(learner(x)), expected, strict=True):
        torch.testing.assert_close(mine.boxes, theirs.boxes)
        assert torch.equal(mine.labels, theirs.labels)


def _learner(network: Any) -> Learner:
    made = Learner(network.float(), 3, (detectors.SIZE, detectors.SIZE)).double()
    network.double()
    return made


def marked(number: int) -> tuple[np.ndarray, Example]:
    """A black picture with two objects, each of one colour of its own; its size is no multiple of anything."""
    draw = np.random.default_rng(number)
    wide, high = int(draw.integers(90, 130)), int(draw.integers(70, 100))
    pixels = np.zeros((high, wide, 3), np.uint8)
    boxes = []
    for channel in range(2):
        edge = int(draw.integers(20, 30))
        left = int(draw.integers(0, wide // 2 - edge)) + channel * (wide // 2)
        top = int(draw.integers(0, high - edge))
        pixels[top : top + edge, left : left + edge, channel] = 255
        boxes.append((float(left), float(top), float(left + edge), float(top + edge)))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    example = Example(
        f"{number}", "", f"{number}", out.getvalue, boxes=tuple(boxes), box_labels=(1, 2), size=(wide, high)
    )
    return pixels, example


@pytest.mark.parametrize("crop", [1.0, 0.3])
def test_boxes_go_where_their_pixels_go(crop: float) -> None:
    images, examples = zip(*(marked(number) for number in range(24)), strict=True)
    preprocessing = Preprocessing(input_size=(64, 80), resize=80, fit="stretch", mean=(0.0,) * 3, std=(1.0,) * 3)
    variation = BoxedVariation(Variation(preprocessing, crop, flip=True, color=0.0), examples)
    sizes = np.array([each.shape[:2] for each in images])
    areas = sizes.prod(1)
    places = torch.from_numpy(np.stack([areas.cumsum() - areas, sizes[:, 1]], 1))
    pixels = Pixels(torch.from_numpy(np.concatenate([each.reshape(-1, 3) for each in images])), places)
    views = variation.draw((0, 1, 2), sizes, range(len(images)))
    x = variation(pixels, views)
    assert views.table[:, 4].unique().tolist() == [0, 1]  # mirrored and not
    assert (len(views.boxes) == 48) == (crop == 1)
    for shown, target in zip(x, views.targets(), strict=True):
        assert len(target["boxes"])
        for box, label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
            rows, columns = np.nonzero(shown[label - 1].numpy() > 0.5)
            seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert box == pytest.approx(seen, abs=1.6)
    some = views.part(slice(3, 7))
    assert [each["boxes"].tolist() for each in some.targets()] == [
        each["boxes"].tolist() for each in views.targets()[3:7]
    ]
    again = variation.draw((0, 1, 2), sizes, range(len(images)))
    assert torch.equal(again.boxes, views.boxes)


def test_what_is_served_is_the_whole_image() -> None:
    _, example = marked(1)
    wide, high = example.size
    (target,) = served_views([example], (64, 80)).targets()
    scale = np.array([80 / wide, 64 / high] * 2)
    assert target["boxes"].numpy() == pytest.approx(np.array(example.boxes) * scale, abs=1e-4)


def test_a_drawn_image_counts_as_often_as_it_was_drawn() -> None:
    """Against the plain way: the images themselves, some of them twice."""
    there, found = scenes(3)
    known = matches(there, found)
    draw = np.random.default_rng(0)
    for _ in range(20):
        rows = draw.integers(0, len(there), len(there))
        times = np.bincount(rows, minlength=len(there)).astype(float)[None]
        # Scores of the same image drawn twice are equal; a little less for the second keeps the order of both ways.
        plain = average_precision([there[row] for row in rows], [found[row] for row in rows])
        areas = np.stack([each.areas(times)[0].mean() for each in known.values()])
        assert np.nanmean(areas) == pytest.approx(plain.map, abs=1e-9)


def test_the_interval_is_that_of_plain_draws() -> None:
    there, found = scenes(1)
    known, count = matches(there, found), len(there)
    chance = np.random.default_rng(5)
    plain = []
    for _ in range(400):
        rows = chance.integers(0, count, count)
        plain.append(average_precision([there[row] for row in rows], [found[row] for row in rows]).map)
    low, high = bootstrap(known, count)
    assert (low, high) == pytest.approx(tuple(np.nanpercentile(plain, (2.5, 97.5))), abs=0.03)
    score = box_score(there, found, 4)
    assert (score.map, score.map50) == (average_precision(there, found).map, average_precision(there, found).map50)
    assert score.aps[3] is None
    assert score.objects[3] == 0
    assert sum(score.objects) == sum(len(each.labels) for each in there)
    assert bootstrap_difference(known, known, count) == (0, 0)
    worse = [Objects(each.boxes + 3, each.labels, each.scores) for each in found]
    low, high = bootstrap_difference(known, matches(there, worse), count)
    assert 0 < low < high


def test_an_image_is_rated_by_its_own_objects() -> None:
    there, found = scenes(0)
    with_objects = next(n for n, each in enumerate(there) if len(each.labels))
    assert (
        rating(there[with_objects], found[with_objects])
        == average_precision([there[with_objects]], [found[with_objects]]).map
    )
    nothing = Objects(np.zeros((0, 4)), np.zeros(0, np.int64))
    one = Objects(np.ones((1, 4)), np.ones(1, np.int64), np.array([0.75]))
    assert rating(nothing, one) == 0.25
    assert rating(nothing, Objects(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))) == 1
