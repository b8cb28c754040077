"""What is explained: a linear functional of one row's logits.

Of a network that answers each pixel it is the mean of a class's logit over a region: where the network, for the image
as it is, predicts that class, or a region that the caller gives. A place of the prediction is then one by area: rank 0
is the class with the most pixels of the region, and a class named background comes after all others that have any.

The derivative is always that of a logit, never of the softmax probability: where the network is certain, the
probability's derivative vanishes and the map with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.saliency.regions import Region, check_region


@dataclass(frozen=True)
class Rank:
    """The class at this place of the prediction.

    Attributes:
        place: 0 is the predicted class.
        region: Of a network that answers each pixel: where; None is the whole image, and the pixels of the class.
    """

    place: int = 0
    region: Region | None = None


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


@dataclass(frozen=True)
class Within:
    """A target of a network that answers each pixel, over a region.

    Attributes:
        target: A class, or a difference of two; None is the class with the most pixels in the region.
        region: In pixels of the model's input.
    """

    target: int | str | Rank | Contrast | Top | None
    region: Region


# None is the predicted class, an int a class index, a str what `models.label_index` takes: a label, or digits that are
# no label, or "index:3" or "label:3".
Target = int | str | Rank | Contrast | Top | Within | None


@dataclass(frozen=True)
class ResolvedTarget:
    """What a map is of.

    Attributes:
        index: The class whose logit is explained.
        minus: The class whose logit is subtracted; None if there is none.
        region: Over which logits of pixels are averaged; None is where the class is predicted, or there are none.
        area: Share of the pixels that the region has, in a result of a network that answers each pixel.
    """

    index: int
    minus: int | None = None
    region: Region | None = None
    area: float | None = None


@dataclass(frozen=True)
class Classes:
    """What targets may name.

    Attributes:
        count: K.
        labels: Of the classes; empty if they have none.
        dense: Whether there is a prediction for each pixel, so that targets may have regions.
        size: (height, width) of the model's input.
    """

    count: int
    labels: Sequence[str] = ()
    dense: bool = False
    size: tuple[int, int] = (0, 0)


def expand(target: Target, known: Classes) -> list[Rank | ResolvedTarget]:
    """Check a target against the model and spell it out as single targets. Raises InvalidArgument."""
    if isinstance(target, Rank) and target.region is not None:
        target = Within(Rank(target.place), target.region)
    if not isinstance(target, Within):
        return _expand(target, known)
    if not known.dense:
        raise InvalidArgument(
            "target: a region is for segmentation models; a classifier's answer has no places", field="target"
        )
    region = check_region(target.region, *known.size)
    return [replace(one, region=region) for one in _expand(target.target, known)]


def _expand(target: object, known: Classes) -> list[Rank | ResolvedTarget]:
    classes, labels = known.count, known.labels
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


def maps_of(target: Target) -> int:
    """How many maps a target asks for."""
    inside = target.target if isinstance(target, Within) else target
    return inside.count if isinstance(inside, Top) else 1


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
