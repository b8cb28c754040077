"""How good a classifier is, from its predictions on images that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_Z = 1.959964  # of a normal distribution, 95 % lie within so many deviations


@dataclass(frozen=True)
class Score:
    """How good a classifier is on some images.

    Attributes:
        accuracy: In [0, 1].
        interval: 95 %, of the accuracy, see `wilson`.
        balanced: The mean of the classes' own accuracies, in [0, 1].
        loss: Mean cross entropy, in nats.
        confusion: Row the true class, column the predicted one, counts.
        images: How many.
    """

    accuracy: float
    interval: tuple[float, float]
    balanced: float
    loss: float
    confusion: tuple[tuple[int, ...], ...]
    images: int


@dataclass(frozen=True)
class ClassScore:
    """One class of a confusion table.

    Attributes:
        images: Of this class.
        predicted: Images that were taken for it.
        right: Both.
    """

    images: int
    predicted: int
    right: int

    @property
    def precision(self) -> float | None:
        """Share of `predicted` that is right; None without any."""
        return self.right / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Share of `images` that is right; None without any."""
        return self.right / self.images if self.images else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None without any image."""
        total = self.images + self.predicted
        return 2 * self.right / total if total else None


@dataclass(frozen=True)
class Confused:
    """Images of class `true` that were taken for `predicted`, both indices. share: of the images of that class."""

    true: int
    predicted: int
    count: int
    share: float


def class_scores(confusion: Sequence[Sequence[int]]) -> tuple[ClassScore, ...]:
    """One per class. confusion: as in Score."""
    predicted = [sum(column) for column in zip(*confusion, strict=True)]
    return tuple(
        ClassScore(sum(row), taken, row[index])
        for index, (row, taken) in enumerate(zip(confusion, predicted, strict=True))
    )


def most_confused(confusion: Sequence[Sequence[int]], most: int) -> tuple[Confused, ...]:
    """The pairs of different classes that were mixed up most often, at most so many; of equals the larger share."""
    pairs = [
        Confused(true, predicted, count, count / sum(row))
        for true, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    return tuple(sorted(pairs, key=lambda one: (-one.count, -one.share, one.true, one.predicted))[:most])


def mcnemar(fixed: int, broken: int) -> float:
    """Probability that two equally good classifiers differ at least so unevenly, by McNemar's exact test.

    Args:
        fixed: Images that only the one gets right.
        broken: Images that only the other gets right.

    References:
        McNemar 1947, doi 10.1007/BF02295996.
    """
    count, ways, tail = fixed + broken, 1, 0
    for k in range(min(fixed, broken) + 1):
        tail += ways
        ways = ways * (count - k) // (k + 1)  # to choose k + 1 of them
    return min(1.0, 2 * tail / 2**count)


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
    """The 95 % interval of a share; sound at 0 and 1 too.

    Args:
        right: Of `count`.
        count: 1 or more.

    References:
        Wilson 1927, doi 10.1080/01621459.1927.10502953.
    """
    share, z2 = right / count, _Z**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    # Where rounding would leave the share itself outside.
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))


def class_weights(classes: Tensor, count: int) -> Tensor:
    """(count,): inverse frequency, of mean 1 over the images."""
    frequency = torch.bincount(classes, minlength=count).clamp(min=1).double()
    return (len(classes) / (count * frequency)).float()
