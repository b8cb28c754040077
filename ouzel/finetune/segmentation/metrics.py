"""How good a segmentation is: intersection over union of its classes, with intervals from a bootstrap over images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ouzel_protos.label_maps import IGNORED

_DRAWS = 2000
_AT_A_TIME = 2**24  # entries of the matrices of some draws


@dataclass(frozen=True)
class PixelScore:
    """How good a segmentation is on some images.

    Attributes:
        miou: Mean over the classes of the intersection over union of all pixels, in [0, 1].
        interval: 95 % of it, see `bootstrap`.
        ious: Of each class; None where neither the labels nor the network has it.
        pixel_accuracy: Share of the pixels that are right, in [0, 1].
        confusion: Row the true class, column the predicted one, counts of pixels.
        images: How many.
    """

    miou: float
    interval: tuple[float, float]
    ious: tuple[float | None, ...]
    pixel_accuracy: float
    confusion: tuple[tuple[int, ...], ...]
    images: int


def confusions(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(B, K, K) int64 on the device: of each image, row the true class, column the predicted one.

    Args:
        predicted: (B, H, W), integers.
        labels: (B, H, W), integers; pixels of 255 do not count.
        classes: K.
    """
    cells = classes * classes
    places = labels.long() * classes + predicted.long()
    places = torch.where(labels == IGNORED, cells, places)  # one cell more, for what does not count
    places = places + (cells + 1) * torch.arange(len(labels), device=labels.device)[:, None, None]
    counts = torch.bincount(places.flatten(), minlength=(cells + 1) * len(labels))
    return counts.view(len(labels), cells + 1)[:, :cells].reshape(-1, classes, classes)


def ious(confusion: np.ndarray) -> np.ndarray:
    """(..., K) of counts (..., K, K): intersection over union of each class; NaN where there is no union."""
    both = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    either = confusion.sum(-1) + confusion.sum(-2) - both
    with np.errstate(invalid="ignore"):
        return np.where(either > 0, both / np.maximum(either, 1), np.nan)


def mean_iou(confusion: np.ndarray) -> np.ndarray:
    """(...) of counts (..., K, K): the mean over the classes that there are; NaN without any."""
    each = ious(confusion)
    known = ~np.isnan(each)
    with np.errstate(invalid="ignore"):
        return np.where(known, each, 0).sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan)


def bootstrap(each: np.ndarray, seed: int = 0, draws: int = _DRAWS) -> tuple[float, float]:
    """The 95 % interval of the mean IoU: as many images are drawn again and again, with replacement.

    Args:
        each: (N, K, K), the counts of each image.
        seed: Of the draws.
        draws: How many.

    Returns:
        The 2.5th and the 97.5th percentile.

    References:
        Efron 1979, doi 10.1214/aos/1176344552.
    """
    values = [mean_iou(counts) for (counts,) in _drawn((each,), seed, draws)]
    return _middle(np.concatenate(values))


def bootstrap_difference(
    each: np.ndarray, other: np.ndarray, seed: int = 0, draws: int = _DRAWS
) -> tuple[float, float]:
    """The 95 % interval of what `each` has more of mean IoU than `other` (N, K, K), of the same images: see above."""
    values = [mean_iou(first) - mean_iou(second) for first, second in _drawn((each, other), seed, draws)]
    return _middle(np.concatenate(values))


def _drawn(tables: tuple[np.ndarray, ...], seed: int, draws: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Some draws at a time: of each table (N, K, K), the sums (draws, K, K) of the same images."""
    count, classes = len(tables[0]), tables[0].shape[1]
    flat = [each.reshape(count, -1).astype(np.float64) for each in tables]
    chance = np.random.default_rng(seed)
    part = max(1, min(draws, _AT_A_TIME // max(count, classes * classes)))
    for start in range(0, draws, part):
        times = chance.multinomial(count, np.full(count, 1 / count), min(part, draws - start))
        yield tuple((times @ each).reshape(-1, classes, classes) for each in flat)


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def pixel_score(each: Tensor | np.ndarray, seed: int = 0) -> PixelScore:
    """The figures of images. each: (N, K, K), the counts of each image, N > 0; seed: of the bootstrap."""
    counts = np.asarray(each)
    whole = counts.sum(0)
    return PixelScore(
        miou=float(mean_iou(whole)),
        interval=bootstrap(counts, seed),
        ious=tuple(None if np.isnan(one) else float(one) for one in ious(whole)),
        pixel_accuracy=float(np.trace(whole) / max(1, whole.sum())),
        confusion=tuple(tuple(row) for row in whole.tolist()),
        images=len(counts),
    )
