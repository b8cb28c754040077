"""How good a detector is: mAP with its interval from a bootstrap over images, and each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ouzel.finetune.detection.average_precision import Floats, Matches, Objects, average_precision, matches

_DRAWS, _FEWEST = 1000, 200
_WORK = 10**9  # detections that are looked at in all draws together, about
_AT_A_TIME = 2**22  # of some draws


@dataclass(frozen=True)
class BoxScore:
    """How good a detector is on some images.

    Attributes:
        map: COCO's mAP, the mean over classes and over overlaps of .5 to .95, in [0, 1].
        interval: 95 % of it, see `bootstrap`.
        map50: At an overlap of .5 alone.
        aps: Of each class the mean over overlaps; None of one without an object.
        aps50: The same at an overlap of .5.
        objects: Of each class, how many there are.
        images: How many.
    """

    map: float
    interval: tuple[float, float]
    map50: float
    aps: tuple[float | None, ...]
    aps50: tuple[float | None, ...]
    objects: tuple[int, ...]
    images: int


def box_score(there: Sequence[Objects], found: Sequence[Objects], classes: int, seed: int = 0) -> BoxScore:
    """The figures of images, of which one has an object at least.

    Args:
        there: What is in each image; labels from 1 on.
        found: What was found, with scores.
        classes: How many.
        seed: Of the bootstrap.
    """
    known = matches(there, found)
    once = np.ones((1, len(there)))
    each = {label: one.areas(once)[0] for label, one in known.items()}
    whole = np.stack(list(each.values()))
    labels = range(1, classes + 1)
    return BoxScore(
        map=float(whole.mean()),
        interval=bootstrap(known, len(there), seed),
        map50=float(whole[:, 0].mean()),
        aps=tuple(float(each[label].mean()) if label in each else None for label in labels),
        aps50=tuple(float(each[label][0]) if label in each else None for label in labels),
        objects=tuple(int(known[label].totals.sum()) if label in known else 0 for label in labels),
        images=len(there),
    )


def bootstrap(known: Mapping[int, Matches], images: int, seed: int = 0, draws: int = 0) -> tuple[float, float]:
    """The 95 % interval of mAP: as many images are drawn again and again, with replacement.

    A detection of an image that is drawn twice counts twice, and so do its objects. Classes of which no object is drawn
    do not count in that draw.

    Args:
        known: From `matches`.
        images: How many.
        seed: Of the draws.
        draws: How many; 0 is 1000, or fewer where there are very many detections.

    Returns:
        The 2.5th and the 97.5th percentile.

    References:
        Efron 1979, doi 10.1214/aos/1176344552.
    """
    return _middle(np.concatenate([_map(known, times) for times in _times((known,), images, seed, draws)]))


def bootstrap_difference(
    known: Mapping[int, Matches], other: Mapping[int, Matches], images: int, seed: int = 0, draws: int = 0
) -> tuple[float, float]:
    """The 95 % interval of what `known` has more of mAP than `other`, of the same images: see above."""
    drawn = _times((known, other), images, seed, draws)
    return _middle(np.concatenate([_map(known, times) - _map(other, times) for times in drawn]))


def rating(there: Objects, found: Objects) -> float:
    """How good the detections of one image are, in [0, 1]: its own mAP; without objects, 1 less the highest score."""
    if len(there.labels):
        return average_precision([there], [found]).map
    assert found.scores is not None
    return 1.0 - float(found.scores.max(initial=0.0))


def _map(known: Mapping[int, Matches], times: Floats) -> Floats:
    """(R,) mAP; NaN where no object was drawn."""
    areas = np.stack([each.areas(times).mean(1) for each in known.values()])
    there = ~np.isnan(areas)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(there, areas, 0).sum(0) / np.where(there.any(0), there.sum(0), np.nan)
    return mean


def _times(tables: tuple[Mapping[int, Matches], ...], images: int, seed: int, draws: int) -> Iterator[Floats]:
    """Some draws at a time: (R, images), how often each image was drawn."""
    most = max(len(one.image) for table in tables for one in table.values())
    work = 10 * sum(len(one.image) for table in tables for one in table.values())
    draws = draws or int(np.clip(_WORK // max(1, work), _FEWEST, _DRAWS))
    part = max(1, min(draws, _AT_A_TIME // max(images, most)))
    chance = np.random.default_rng(seed)
    for start in range(0, draws, part):
        yield chance.multinomial(images, np.full(images, 1 / images), min(part, draws - start)).astype(np.float64)


def _middle(values: Floats) -> tuple[float, float]:
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)
