"""COCO's annotations as label maps: polygons and run lengths, drawn by pycocotools.

Pixels that two classes claim get the value 255, which counts nowhere; crowds are pixels of their class as others are.
Coordinates and runs are checked here before pycocotools sees them: its C code trusts them.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ouzel_protos.label_maps import IGNORED, BadMask
from ouzel_protos.text import nfc

if TYPE_CHECKING:
    import numpy as np

LARGEST = 512 * 2**20  # bytes of all files together
_LONGEST_EDGE = 32_768
_MOST_POINTS = 200_000  # of one image


@dataclass(frozen=True)
class AnnotatedImage:
    """file_name: as the annotations have it. key: of its regions."""

    file_name: str
    width: int
    height: int
    key: tuple[int, Any]


@dataclass(frozen=True)
class Annotations:
    """classes: names of the categories, by their id. regions: by an image's key, (class from 1 on, segmentation)."""

    images: tuple[AnnotatedImage, ...]
    classes: tuple[str, ...]
    regions: Mapping[tuple[int, Any], Sequence[tuple[int, Any]]]


def parse(files: Iterable[tuple[str, bytes]]) -> Annotations:
    """Reads (name, content) of each file; their categories are the same. Raises BadMask, which names file and entry."""
    images: list[AnnotatedImage] = []
    regions: dict[tuple[int, Any], list[tuple[int, Any]]] = defaultdict(list)
    categories: dict[Any, str] = {}
    size = 0
    for number, (name, content) in enumerate(files):
        size += len(content)
        if size > LARGEST:
            raise BadMask(f"{name!r:.200}: {size} bytes of annotations are more than {LARGEST}")
        values = loaded(name, content)
        named = entries_of(name, values, "categories", {"id": int, "name": str})
        own = {each["id"]: nfc(each["name"]) for each in named}
        if number and own != categories:
            raise BadMask(f"{name!r:.200} has other categories than the files before it")
        categories = own
        known = set()
        kinds = {"id": int, "file_name": str, "width": int, "height": int}
        for each in entries_of(name, values, "images", kinds):
            width, height = each["width"], each["height"]
            if not (1 <= width <= _LONGEST_EDGE and 1 <= height <= _LONGEST_EDGE):
                raise BadMask(f"{name!r:.200}: {each['file_name']!r:.200} has {width} x {height} pixels")
            images.append(AnnotatedImage(each["file_name"], width, height, (number, each["id"])))
            known.add(each["id"])
        order = {category: place for place, category in enumerate(sorted(categories), 1)}
        for each in entries_of(name, values, "annotations", {"image_id": int, "category_id": int}):
            for field, allowed in (("image_id", known), ("category_id", categories)):
                if each[field] not in allowed:
                    raise BadMask(f"{name!r:.200}: an annotation has the {field} {each[field]}, which there is not")
            segmentation = each.get("segmentation")
            if not segmentation:
                raise BadMask(
                    f"{name!r:.200}: the annotation {each.get('id', '')!r:.40} has no segmentation, a box at most"
                )
            regions[(number, each["image_id"])].append((order[each["category_id"]], segmentation))
    return Annotations(tuple(images), tuple(categories[key] for key in sorted(categories)), regions)


def draw(annotations: Annotations, image: AnnotatedImage) -> np.ndarray[Any, Any]:
    """(height, width) uint8. Raises BadMask for what lies far outside of the image or does not fit it."""
    import numpy as np

    try:
        from pycocotools import mask as masks
    except ImportError:
        raise BadMask("COCO's annotations need pycocotools: pip install 'ouzel-client[masks]'") from None
    labels = np.zeros((image.height, image.width), np.uint8)
    points = 0
    for label, segmentation in annotations.regions.get(image.key, ()):
        try:
            runs = _checked(segmentation, image)
        except (TypeError, ValueError, OverflowError) as error:
            if isinstance(error, BadMask):
                raise BadMask(f"{image.file_name!r:.200}: {error}") from None
            raise BadMask(f"{image.file_name!r:.200}: a segmentation is neither polygons nor runs") from None
        if isinstance(runs, list):
            points += sum(map(len, runs)) // 2
            if points > _MOST_POINTS:
                raise BadMask(f"{image.file_name!r:.200}: more than {_MOST_POINTS} corners of polygons")
            encoded = masks.frPyObjects(runs, image.height, image.width)
            shown = masks.decode(masks.merge(encoded)).astype(bool)
        else:
            shown = _filled(runs["counts"], image)
        labels[shown & (labels != 0) & (labels != label)] = IGNORED
        labels[shown & (labels != IGNORED)] = label
    return labels


def _checked(segmentation: Any, image: AnnotatedImage) -> Any:
    """Polygons as lists of numbers, or {"counts": runs}. Raises BadMask or what Python raises for strange types."""
    if isinstance(segmentation, Mapping):
        height, width = segmentation.get("size", (image.height, image.width))
        if (height, width) != (image.height, image.width):
            raise BadMask(f"runs of {width} x {height} pixels; the image has {image.width} x {image.height}")
        counts = segmentation.get("counts")
        runs = _unpacked(counts) if isinstance(counts, str) else list(counts or ())
        if any(isinstance(run, bool) or not isinstance(run, int) or run < 0 for run in runs):
            raise BadMask("a run is not an integer of 0 or more")
        if sum(runs) != image.width * image.height:
            raise BadMask(f"the runs have {sum(runs)} pixels together; the image has {image.width * image.height}")
        return {"counts": runs}
    if not isinstance(segmentation, list):
        raise TypeError
    polygons = [[float(value) for value in polygon] for polygon in segmentation]
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise BadMask(f"a polygon has {len(polygon)} numbers; it needs x and y of three corners or more")
        for edge, values in ((image.width, polygon[::2]), (image.height, polygon[1::2])):
            for value in values:
                if not math.isfinite(value) or not -edge <= value <= 2 * edge:
                    raise BadMask(f"a corner at {value:g} lies far outside of an edge of {edge} pixels")
    return polygons


def _unpacked(text: str) -> list[int]:
    """COCO's packed runs: five bits a character, the third run and those after it less the one before the last."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise BadMask("the packed runs hold what is none")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise BadMask("the packed runs end in the middle of one")
    return runs


def _filled(runs: Sequence[int], image: AnnotatedImage) -> np.ndarray[Any, Any]:
    """(height, width) of bool: runs of outside and inside in turn, down each column."""
    import numpy as np

    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(image.width, image.height).T


def loaded(name: str, content: bytes) -> Mapping[str, Any]:
    """The object in a file of annotations. Raises BadMask."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadMask(f"{name!r:.200} is not JSON ({error!s:.200})") from None
    if not isinstance(values, Mapping):
        raise BadMask(f"{name!r:.200} is not an object with images, annotations and categories, as COCO has it")
    return values


def entries_of(name: str, values: Mapping[str, Any], field: str, kinds: Mapping[str, type]) -> list[Mapping[str, Any]]:
    """The objects of a list in it. kinds: of the values that each must have. Raises BadMask."""
    entries = values.get(field)
    if not isinstance(entries, list):
        raise BadMask(f"{name!r:.200} has no list {field}, as COCO has it")
    for number, entry in enumerate(entries):
        for key, kind in kinds.items():
            value = entry.get(key) if isinstance(entry, Mapping) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                raise BadMask(f"{name!r:.200}: {field}[{number}].{key} is {value!r:.80}, not {kind.__name__}")
    return entries
