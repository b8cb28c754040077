"""Confident learning: which labels do the probabilities of held-out images contradict?

References:
    Northcutt, Jiang, Chuang 2021, "Confident learning: estimating uncertainty in dataset labels", JAIR 70,
    arXiv 1911.00068.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ouzel.audit.dataset.evidence import LabelError, LabelErrors
from ouzel.audit.dataset.rows import ImageRow

KEPT = 20  # best classes of each image whose probabilities are kept


@dataclass(frozen=True, eq=False)
class Answer:
    """What the model says of an unchanged image: the classes that it finds likely.

    Attributes:
        classes: Indices of the true label and of the best classes, each once.
        probabilities: Of these classes.
    """

    classes: tuple[int, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def of(cls, probabilities: np.ndarray, given: int) -> Answer:
        """Keeps the true label and the best classes.

        Args:
            probabilities: (K,).
            given: Index of the true label.
        """
        best = np.argsort(-probabilities, kind="stable")[:KEPT].tolist()
        classes = tuple(dict.fromkeys([given, *best]))
        return cls(classes, tuple(float(probabilities[each]) for each in classes))


def confident_joint(given: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts images by given and by likely class.

    The threshold of a class is its mean probability over the images that have its label. An image is counted for the
    best of the classes whose probability reaches their threshold, and is not counted if there is none.

    Args:
        given: (N,) of int: labels.
        probabilities: (N, K): held out. A class without a label is never counted.

    Returns:
        (K, K) of int: [given, likely]. (N,) of int: the likely class of each image; -1 if it is not counted.
    """
    count = probabilities.shape[1]
    thresholds = np.full(count, np.inf)
    for each in np.unique(given):
        thresholds[each] = probabilities[given == each, each].mean()
    # A mean of equal numbers may be above each of them by rounding.
    reached = np.where(probabilities >= thresholds - 1e-9, probabilities, -1.0)
    likely = np.where(reached.max(1) >= 0, reached.argmax(1), -1)
    joint = np.zeros((count, count), dtype=np.int64)
    np.add.at(joint, (given[likely >= 0], likely[likely >= 0]), 1)
    return joint, likely


def label_errors(answers: Sequence[tuple[ImageRow, Answer]], labels: Sequence[str]) -> LabelErrors:
    """Suspected label errors: images that are counted for another class than the given one.

    Args:
        answers: Of the images that are held out and have a true label that the model knows.
        labels: Of the model's classes.

    Returns:
        The suspects, by how much more likely the other class is.
    """
    if not answers:
        return LabelErrors(
            0, (), "No label was checked: no image is both held out from the model's training and has a true label."
        )
    used = sorted({each for _, answer in answers for each in answer.classes})
    place = {each: number for number, each in enumerate(used)}
    probabilities = np.zeros((len(answers), len(used)))
    for number, (_, answer) in enumerate(answers):
        probabilities[number, [place[each] for each in answer.classes]] = answer.probabilities
    given = np.array([place[answer.classes[0]] for _, answer in answers])
    _, likely = confident_joint(given, probabilities)
    suspected = []
    for number in np.flatnonzero((likely >= 0) & (likely != given)).tolist():
        row, own, other = answers[number][0], int(given[number]), int(likely[number])
        suspected.append(
            LabelError(
                row.name,
                labels[used[own]],
                labels[used[other]],
                float(probabilities[number, own]),
                float(probabilities[number, other]),
                row.predicted,
            )
        )
    suspected.sort(key=lambda each: each.given_probability - each.suggested_probability)
    reason = (
        f"{len(answers)} labels were checked against what the model says of images that it has not learnt from. A "
        "suspected label may be right: look at the image."
    )
    return LabelErrors(len(answers), tuple(suspected), reason)
