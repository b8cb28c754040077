"""What is explained: a linear functional of one row's logits.

The derivative is always that of a logit, never of the softmax probability: where the network is certain, the
probability's derivative vanishes and the map with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ouzel import models
from ouzel.errors import InvalidArgument


@dataclass(frozen=True)
class Rank:
    """The class at this place of the prediction.

    Attributes:
        place: 0 is the predicted class.
    """

    place: int = 0


@dataclass(frozen=True)
class Top:
    """The first classes of the prediction, one map each.

    Attributes:
        count: How many, 1 to K.
    """

    count: int


@dataclass(frozen=True)
class Contrast:
    """Why `a` and not `b`: the logit of a minus the logit of b.

    Attributes:
        a: A class by index or text, as a target.
        b: Another class.
    """

    a: int | str
    b: int | str


# None is the predicted class, an int a class index, a str what `models.label_index` takes: a label, or digits that are
# no label, or "index:3" or "label:3".
Target = None | int | str | Rank | Contrast | Top


@dataclass(frozen=True)
class ResolvedTarget:
    """What a map is of.

    Attributes:
        index: The class whose logit is explained.
        minus: The class whose logit is subtracted; None if there is none.
    """

    index: int
    minus: int | None = None


def expand(target: Target, classes: int, labels: Sequence[str] = ()) -> list[Rank | ResolvedTarget]:
    """Check a target against the model and spell it out as single targets. Raises InvalidArgument."""
    match target:
        case None:
            return [Rank(0)]
        case Rank(place):
            _check("rank", place, 0, classes - 1)
            return [target]
        case Top(count):
            _check("top", count, 1, classes)
            return [Rank(place) for place in range(count)]
        case Contrast() if classes == 1:
            raise InvalidArgument("target: the model has one class, and none to contrast it with", field="target")
        case Contrast(a, b):
            first, second = (_class_index(c, classes, labels) for c in (a, b))
            if first == second:
                raise InvalidArgument(f"target: contrast of class {first} with itself is zero", field="target")
            return [ResolvedTarget(first, second)]
        case int() | str():
            return [ResolvedTarget(_class_index(target, classes, labels))]
    raise InvalidArgument(f"target: {target!r:.80} is neither an index, a label, a contrast nor a rank", field="target")


def _class_index(ref: int | str, classes: int, labels: Sequence[str]) -> int:
    if isinstance(ref, str):
        try:
            return models.label_index(labels, ref, classes)
        except InvalidArgument as error:
            raise InvalidArgument(f"target: {str(error).removeprefix('label: ')}", field="target") from None
    _check("class index", ref, 0, classes - 1)
    return ref


def _check(what: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgument(f"target: {what} {value!r:.80} is not an integer in {least}..{most}", field="target")


def best(logits: Tensor, count: int) -> Tensor:
    """(B, count) classes of (B, K) logits, best first; of equal ones the lower index comes first."""
    if count == 1:  # the first of several largest values, as PyTorch documents
        return logits.argmax(dim=1, keepdim=True)
    return logits.argsort(dim=1, descending=True, stable=True)[:, :count]
