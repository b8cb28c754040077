"""Mean average precision against pycocotools."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest

from ouzel.finetune.detection import Objects, average_precision

coco = pytest.importorskip("pycocotools.coco")
cocoeval = pytest.importorskip("pycocotools.cocoeval")


def scenes(seed: int, images: int = 12, classes: int = 3) -> tuple[list[Objects], list[Objects]]:
    """Objects, and detections near them, beside them, twice and of wrong classes; without equal scores."""
    draw = np.random.default_rng(seed)
    there, found = [], []
    for _ in range(images):
        count = int(draw.integers(0, 6))
        corner = draw.uniform(0, 150, (count, 2))
        boxes = np.concatenate([corner, corner + draw.uniform(8, 50, (count, 2))], axis=1)
        labels = draw.integers(1, classes + 1, count)
        near = np.concatenate([boxes + draw.normal(0, draw.choice([0.5, 3, 9]), boxes.shape) for _ in range(2)])
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        other = draw.uniform(0, 150, (3, 2))
        seen = np.concatenate([near, np.concatenate([other, other + 20], axis=1)])
        names = np.concatenate([labels, labels, draw.integers(1, classes + 1, 3)])
        names = np.where(draw.random(len(names)) < 0.15, draw.integers(1, classes + 1, len(names)), names)
        there.append(Objects(boxes, labels))
        found.append(Objects(seen, names, draw.permutation(len(names)) / 100 + draw.random() / 1000))
    return there, found


def theirs(there: list[Objects], found: list[Objects]) -> tuple[float, float]:
    def box(edges):
        return [edges[0], edges[1], edges[2] - edges[0], edges[3] - edges[1]]

    annotations, seen = [], []
    for image, (one, other) in enumerate(zip(there, found, strict=True), 1):
        for edges, label in zip(one.boxes.tolist(), one.labels.tolist(), strict=True):
            area = (edges[2] - edges[0]) * (edges[3] - edges[1])
            number = len(annotations) + 1
            annotations.append(
                {"id": number, "image_id": image, "category_id": label, "bbox": box(edges), "area": area, "iscrowd": 0}
            )
        for edges, label, score in zip(other.boxes.tolist(), other.labels.tolist(), other.scores.tolist(), strict=True):
            seen.append({"image_id": image, "category_id": label, "bbox": box(edges), "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "images": [{"id": number} for number in range(1, len(there) + 1)],
            "annotations": annotations,
            "categories": [{"id": number} for number in range(1, 10)],
            "info": {},
        }
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(seen), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


@pytest.mark.parametrize("seed", range(6))
def test_it_is_pycocotools(seed: int) -> None:
    there, found = scenes(seed)
    mine = average_precision(there, found)
    assert (mine.map, mine.map50) == pytest.approx(theirs(there, found), abs=1e-9)
    assert 0 < mine.map < mine.map50 < 1


def test_perfect_nothing_and_no_objects() -> None:
    there, _ = scenes(0)
    perfect = [Objects(one.boxes, one.labels, np.ones(len(one.labels))) for one in there]
    assert average_precision(there, perfect).map == 1
    nothing = [Objects(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0)) for _ in there]
    assert average_precision(there, nothing).map == 0
    assert math.isnan(average_precision(nothing, nothing).map)
