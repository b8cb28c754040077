"""A tuned network beside another model, on the images that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ouzel import models
from ouzel.finetune.metrics import mcnemar
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.tuned import Tuned
from ouzel.models import Model
from ouzel.task_names import CLASSIFICATION, kind_of

_BATCH = 32


@dataclass(frozen=True)
class Comparison:
    """Another model on the test images of a tuned one.

    Attributes:
        name: Of the other model, NAME@VERSION.
        predicted: Its label for each test image, in their order; empty where it tells other classes apart.
        accuracy: Of the other model, in [0, 1].
        fixed: Numbers of the images that the tuned network gets right and the other does not.
        broken: The other way round.
        problem: Why they cannot be compared; "" if they can.
    """

    name: str
    predicted: tuple[str, ...] = ()
    accuracy: float | None = None
    fixed: tuple[int, ...] = ()
    broken: tuple[int, ...] = ()
    problem: str = ""

    @property
    def p(self) -> float:
        """How likely equally good models would differ so much, or more (McNemar)."""
        return mcnemar(len(self.fixed), len(self.broken))


def compare(other: Model, tuned: Tuned, tell: Callable[[int, int], None] = lambda done, of: None) -> Comparison:
    """Run another model on the test images of a tuned one, as it is served.

    It may have learnt from some of those images: the comparison favours it.

    Args:
        other: The model that is served until now.
        tuned: What is to follow it.
        tell: Called with the images done and how many there are.
    """
    name = f"{other.name}@{other.version}"
    if other.task != CLASSIFICATION:
        return Comparison(name, problem=f"it is {kind_of(other.task)}")
    if set(other.labels) != set(tuned.labels):
        return Comparison(name, problem=_difference(set(other.labels), set(tuned.labels)))
    test = tuned.split.test
    pictures, predicted = Pictures(other.preprocessing), list[str]()
    device = next(other.network.parameters()).device
    try:
        for start in range(0, len(test), _BATCH):
            tell(start, len(test))
            with models.computing(), torch.no_grad():
                logits = other.network(pictures.as_served(test[start : start + _BATCH]).to(device))
            predicted += [other.labels[index] for index in logits.argmax(1).tolist()]
    finally:
        pictures.close()
    return _paired(name, predicted, tuned)


def compare_trainings(other: Tuned, tuned: Tuned, name: str) -> Comparison:
    """Set one tuning beside another one of the same split, by what both have said of its test images.

    Args:
        other: That was published until now.
        tuned: What is to follow it.
        name: Of the other, NAME@VERSION.
    """
    return _paired(name, [other.labels[index] for index in other.logits.argmax(1).tolist()], tuned)


def _paired(name: str, predicted: Sequence[str], tuned: Tuned) -> Comparison:
    test = tuned.split.test
    before = [said == each.label for said, each in zip(predicted, test, strict=True)]
    now = [tuned.labels[k] == each.label for k, each in zip(tuned.logits.argmax(1).tolist(), test, strict=True)]
    numbers = range(len(test))
    return Comparison(
        name,
        tuple(predicted),
        sum(before) / len(test),
        tuple(n for n in numbers if now[n] and not before[n]),
        tuple(n for n in numbers if before[n] and not now[n]),
    )


def _difference(theirs: set[str], ours: set[str]) -> str:
    parts = []
    for title, labels in (("does not know", ours - theirs), ("also knows", theirs - ours)):
        if labels:
            more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
            parts.append(f"{title} {', '.join(repr(label) for label in sorted(labels)[:3])}{more}")
    return f"it tells other classes apart: it {' and '.join(parts)}"
