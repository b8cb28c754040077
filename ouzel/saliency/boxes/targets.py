"""Which box is explained: a detection by its rank, 0 being the most probable, or a box with its class."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.saliency.targets import Contrast, Rank, ResolvedTarget, Top, Within

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class GivenBox:
    """A box that the caller gives, whether or not the model finds it.

    Attributes:
        label: Its class, by index or text.
        box: In pixels of the input; a part of it lies within.
    """

    label: int | str
    box: Box


BoxRequest = Rank | Top | GivenBox | None  # None is the most probable detection


@dataclass(frozen=True)
class BoxTarget(ResolvedTarget):
    """What a map is of: a class in a box.

    Attributes:
        box: In pixels of the input.
        score: Probability of the detection; None of a box that was given.
        place: Of the detection among those of its image; None of a box that was given.
        candidate: That gave the detection.
    """

    box: Box = (0.0, 0.0, 0.0, 0.0)
    score: float | None = None
    place: int | None = None
    candidate: int | None = None


@dataclass(frozen=True)
class BoxClasses:
    """What targets may name.

    Attributes:
        count: K.
        labels: Of the classes; empty if they have none.
        background: Whether class 0 is that of no object.
        most: Detections of one image.
        size: (height, width) of the input.
    """

    count: int
    labels: tuple[str, ...]
    background: bool
    most: int
    size: tuple[int, int]


def check_target(target: object, known: BoxClasses) -> list[Rank | BoxTarget]:
    """A target, spelled out as single ones as they can be told before the image is seen. Raises InvalidArgument."""
    match target:
        case None:
            return [Rank(0)]
        case Rank(place, None):
            _check("rank", place, 0, known.most - 1)
            return [target]
        case Top(count):
            _check("top", count, 1, known.most)
            return [Rank(place) for place in range(count)]
        case GivenBox(label, box):
            return [BoxTarget(_class_index(label, known), box=_checked(box, known.size))]
        case Contrast() | Within() | Rank():
            raise InvalidArgument(
                "target: a detector explains a detection by its rank, or a class in a box; it has no contrasts and no "
                "other regions",
                field="target",
            )
    raise InvalidArgument(f"target: {target!r:.80} is neither a detection nor a box with its class", field="target")


def _check(what: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgument(f"target: {what} {value!r:.80} is not an integer in {least}..{most}", field="target")


def _class_index(label: int | str, known: BoxClasses) -> int:
    if isinstance(label, str):
        try:
            index = models.label_index(known.labels, label, known.count)
        except InvalidArgument as error:
            raise InvalidArgument(f"target: {str(error).removeprefix('label: ')}", field="target") from None
    else:
        index = label
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < known.count:
        raise InvalidArgument(
            f"target: class index {index!r:.80} is not an integer in 0..{known.count - 1}", field="target"
        )
    if known.background and index == 0:
        raise InvalidArgument("target: class 0 is the background, which has no boxes", field="target")
    return index


def _checked(box: object, size: tuple[int, int]) -> Box:
    height, width = size
    if not isinstance(box, tuple) or len(box) != 4 or not all(_is_number(edge) for edge in box):
        raise InvalidArgument(
            f"target: box {box!r:.80} is not left, top, right, bottom in finite numbers", field="target"
        )
    left, top, right, bottom = (float(edge) for edge in box)
    told = f"target: box {left:g}, {top:g}, {right:g}, {bottom:g}"
    if not (left < right and top < bottom):
        raise InvalidArgument(f"{told} has no area: left < right and top < bottom", field="target")
    seen = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if not (seen[0] < seen[2] and seen[1] < seen[3]):
        raise InvalidArgument(f"{told} lies outside of what the model sees, {width} x {height} pixels", field="target")
    return seen


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
