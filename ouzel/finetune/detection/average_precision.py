"""Mean average precision, as COCO defines it: of all classes, at overlaps of .5, .55, ... .95."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100  # detections of a class in an image that count


@dataclass(frozen=True, eq=False)
class Objects:
    """What is in an image, or what was found there.

    Attributes:
        boxes: (n, 4) left, top, right, bottom.
        labels: (n,) classes.
        scores: (n,) probabilities; None of what is there.
    """

    boxes: Floats
    labels: npt.NDArray[np.int64]
    scores: Floats | None = None


@dataclass(frozen=True)
class AveragePrecision:
    """The figures of some images.

    Attributes:
        map: Mean over classes and overlaps, in [0, 1]; NaN without any object.
        map50: The same at an overlap of .5 alone.
        by_class: Of each class that has an object, the mean over overlaps.
    """

    map: float
    map50: float
    by_class: dict[int, float]


@dataclass(frozen=True, eq=False)
class Matches:
    """The detections of a class in N images, the best first, and which of them have an object.

    Attributes:
        image: (D,) the number of the image of each.
        hits: (10, D) whether it has an object of its own, at each overlap.
        totals: (N,) objects of each image.
    """

    image: npt.NDArray[np.int64]
    hits: npt.NDArray[np.bool_]
    totals: npt.NDArray[np.int64]

    def areas(self, times: Floats) -> Floats:
        """(R, 10) average precision at each overlap, if image n is there times[r, n] times; NaN without an object."""
        weights = times[:, self.image]
        seen, totals = weights.cumsum(1), times @ self.totals
        made = np.zeros((len(times), len(OVERLAPS)))
        for number, hits in enumerate(self.hits if len(self.image) else ()):
            true = (weights * hits).cumsum(1)
            precision = np.divide(true, seen, out=np.zeros_like(true), where=seen > 0)
            best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            for row, total in enumerate(totals):
                if total:
                    places = np.searchsorted(true[row] / total, RECALLS, side="left")
                    reached = places < best.shape[1]
                    made[row, number] = np.where(reached, best[row, np.minimum(places, best.shape[1] - 1)], 0.0).mean()
        made[totals == 0] = np.nan
        return made


def average_precision(there: Sequence[Objects], found: Sequence[Objects]) -> AveragePrecision:
    """Compare what was found with what is there.

    A detection takes the object of its class that it overlaps most, among those that no better one has taken. Of the
    precision at each recall, the best at this or a higher recall counts; 101 recalls are looked at.

    Args:
        there: One per image.
        found: One per image, with scores.

    References:
        Lin et al. 2014, "Microsoft COCO: Common objects in context", arXiv 1405.0312.
    """
    once = np.ones((1, len(there)))
    curves = {label: each.areas(once)[0] for label, each in matches(there, found).items()}
    if not curves:
        return AveragePrecision(float("nan"), float("nan"), {})
    values = np.stack(list(curves.values()))
    by_class = {label: float(each.mean()) for label, each in curves.items()}
    return AveragePrecision(float(values.mean()), float(values[:, 0].mean()), by_class)


def matches(there: Sequence[Objects], found: Sequence[Objects]) -> dict[int, Matches]:
    """Of each class that has an object."""
    classes = sorted({int(label) for one in there for label in one.labels})
    return {label: _of_class(label, there, found) for label in classes}


def _of_class(label: int, there: Sequence[Objects], found: Sequence[Objects]) -> Matches:
    scores, right, images, totals = [], [], [], []
    for number, (real, seen) in enumerate(zip(there, found, strict=True)):
        assert seen.scores is not None
        mine = np.flatnonzero(seen.labels == label)
        mine = mine[np.argsort(-seen.scores[mine], kind="stable")][:MOST]
        boxes = real.boxes[real.labels == label]
        totals.append(len(boxes))
        scores.append(seen.scores[mine])
        images.append(np.full(len(mine), number))
        right.append(_matched(iou(seen.boxes[mine], boxes)))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return Matches(np.concatenate(images)[order], np.concatenate(right, axis=1)[:, order], np.array(totals))


def _matched(overlaps: Floats) -> npt.NDArray[np.bool_]:
    """(10, detections) whether each has an object. overlaps: (detections, objects), the best detection first."""
    hits = np.zeros((len(OVERLAPS), len(overlaps)), np.bool_)
    possible_at_all = overlaps.max(axis=1, initial=0.0) >= OVERLAPS[0]
    for number, least in enumerate(OVERLAPS):
        free = np.ones(overlaps.shape[1], np.bool_)
        for detection in np.flatnonzero(possible_at_all):
            possible = np.where(free, overlaps[detection], -1.0)
            if possible.max() >= least:
                free[len(possible) - 1 - int(possible[::-1].argmax())] = False  # of equal ones the last, as COCO has it
                hits[number, detection] = True
    return hits


def iou(one: Floats, other: Floats) -> Floats:
    """(n, m) intersection over union; 0 of two without area."""
    corner = np.maximum(one[:, None, :2], other[None, :, :2])
    far = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(far - corner, 0, None).prod(axis=2)
    areas = [np.clip(each[:, 2:] - each[:, :2], 0, None).prod(axis=1) for each in (one, other)]
    both = areas[0][:, None] + areas[1][None] - shared
    result: Floats = np.divide(shared, both, out=np.zeros_like(shared), where=both > 0)
    return result
