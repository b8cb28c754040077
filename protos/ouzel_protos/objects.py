"""Objects in images: boxes with a class each, which detectors learn from. The rules of client, worker and library.

A box is (left, top, right, bottom) in pixels of the image as it is shown, by its EXIF orientation; right and bottom lie
just outside of the object. Classes count from 1 on: 0 is the background, which no object has. Nothing is mended but
edges that lie outside of the image by a rounding of annotations. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ouzel_protos.text import LONGEST_LABEL, is_label, nfc

BACKGROUND = "background"
MOST_CLASSES = 999  # beside the background
MOST_BOXES = 500  # of an image
_ROUNDING = 0.02  # pixels; annotations have hundredths, and COCO rounds an edge and a width

Box = tuple[float, float, float, float]
_EDGES = ("left", "top", "right", "bottom")


class BadBoxes(ValueError):
    """Boxes or classes that break the rules. The message says why, in one line, and names the place as far as known."""


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes, the first of number 1, in composed Unicode (NFC).

    Raises:
        BadBoxes: There are too few or too many, or one is no label, the background, or there twice.
    """
    names = tuple(nfc(name) for name in classes)
    if not 1 <= len(names) <= MOST_CLASSES:
        raise BadBoxes(f"{len(names)} classes of objects; 1 to {MOST_CLASSES} are allowed, without the background")
    seen: set[str] = set()
    for name in names:
        if not is_label(name):
            raise BadBoxes(f"the class {name!r:.80} is not a line of 1 to {LONGEST_LABEL} characters")
        if name.casefold() in (BACKGROUND, f"__{BACKGROUND}__"):
            raise BadBoxes(f"the class {name!r:.80} cannot be that of an object")
        if name in seen:
            raise BadBoxes(f"the class {name!r:.80} is there twice")
        seen.add(name)
    return names


def checked(edges: Sequence[float], size: tuple[int, int] | None = None) -> Box:
    """A box by the rules.

    Args:
        edges: left, top, right, bottom.
        size: (width, height) of the image as it is shown; None if nobody knows it yet.

    Raises:
        BadBoxes: It is not finite, leaves the image, or has no area.
    """
    told = ", ".join(f"{edge:g}" for edge in edges)
    if not all(map(math.isfinite, edges)):
        raise BadBoxes(f"{told} are not four finite numbers")
    kept = []
    for name, edge, axis in zip(_EDGES, edges, (0, 1, 0, 1), strict=True):
        most = math.inf if size is None else float(size[axis])
        if edge < -_ROUNDING or edge > most + _ROUNDING:
            limit = "0 or more" if size is None else f"within 0..{size[axis]}, the image's {('width', 'height')[axis]}"
            raise BadBoxes(f"{name} {edge:g} is not {limit}")
        kept.append(min(max(float(edge), 0.0), most))
    left, top, right, bottom = kept
    if left >= right or top >= bottom:
        raise BadBoxes(f"{told} has no area: left < right and top < bottom")
    return left, top, right, bottom


def check_count(boxes: int) -> None:
    """Raises BadBoxes if an image has too many."""
    if boxes > MOST_BOXES:
        raise BadBoxes(f"{boxes} boxes are more than {MOST_BOXES}")
