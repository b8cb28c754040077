"""How good a classifier is, from its predictions on images that it has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_Z = 1.959964  # of a normal distribution, 95 % lie within so many deviations


@dataclass(frozen=True)
class Score:
    """accuracy and balanced (the mean of the classes' own accuracies) in [0, 1]; interval: 95 %, of the accuracy.

    loss: mean cross entropy. confusion: row the true class, column the predicted one, counts. images: how many.
    """

    accuracy: float
    interval: tuple[float, float]
    balanced: float
    loss: float
    confusion: tuple[tuple[int, ...], ...]
    images: int


def score(logits: Tensor, classes: Tensor) -> Score:
    """logits: (N, K); classes: (N,) of int64, N > 0."""
    count = logits.shape[1]
    predicted = logits.argmax(1)
    confusion = torch.bincount(classes * count + predicted, minlength=count * count).view(count, count)
    seen = confusion.sum(1)
    right = int(confusion.diagonal().sum())
    each = (confusion.diagonal() / seen.clamp(min=1))[seen > 0]
    return Score(
        accuracy=right / len(classes),
        interval=wilson(right, len(classes)),
        balanced=float(each.mean()),
        loss=float(F.cross_entropy(logits, classes)),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        images=len(classes),
    )


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953); sound at 0 and 1 too."""
    share, z2 = right / count, _Z**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    # Where rounding would leave the share itself outside.
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))


def class_weights(classes: Tensor, count: int) -> Tensor:
    """(count,): inverse frequency, of mean 1 over the images."""
    frequency = torch.bincount(classes, minlength=count).clamp(min=1).double()
    return (len(classes) / (count * frequency)).float()
