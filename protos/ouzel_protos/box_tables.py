"""Boxes as files have them: a table boxes.csv, or annotations in COCO's form. Each box with its place, for errors.

boxes.csv has the columns path, label, left, top, right, bottom, in this order; edges are pixels of the image as it is
shown (EXIF). A line with a path alone is an image without objects. Of COCO's annotations, `bbox` is left, top, width,
height; crowds are left out, because theirs is not the box of an object.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ouzel_protos import coco
from ouzel_protos.label_maps import BadMask
from ouzel_protos.objects import BadBoxes
from ouzel_protos.text import nfc

COLUMNS = ("path", "label", "left", "top", "right", "bottom")
CSV, CLASSES = "boxes.csv", "classes.txt"
LARGEST_CSV, LARGEST_NAMES = 256 * 2**20, 2**20  # bytes


@dataclass(frozen=True)
class Line:
    """One annotation as it was written.

    Attributes:
        where: File and place.
        path: Of the image.
        label: Of the object; None says that there is such an image, whether or not it has objects.
        edges: left, top, right, bottom; any values.
        size: (width, height) of the image, where the annotations tell it.
    """

    where: str
    path: str
    label: str | None = None
    edges: Sequence[float] = ()
    size: tuple[int, int] | None = None


def from_csv(content: bytes, name: str = CSV) -> Iterator[Line]:
    """The lines of a table. Raises BadBoxes."""
    reader = csv.reader(io.StringIO(_text(content, name, LARGEST_CSV), newline=""))
    try:
        header = next(reader, [])
        if tuple(each.strip() for each in header) != COLUMNS:
            raise BadBoxes(f"{name}:1: {','.join(header)!r:.80} is not {','.join(COLUMNS)}")
        for row in reader:
            where = f"{name}:{reader.line_num}"
            if not row:
                continue
            if len(row) != len(COLUMNS):
                raise BadBoxes(f"{where}: {len(row)} values where there are {len(COLUMNS)} columns")
            path, label, *edges = (each.strip() for each in row)
            if not label and not any(edges):
                yield Line(where, nfc(path))
            else:
                numbers = [
                    _number(edge, f"{where}: {edge_of}") for edge, edge_of in zip(edges, COLUMNS[2:], strict=True)
                ]
                yield Line(where, nfc(path), nfc(label), numbers)
    except csv.Error as error:
        raise BadBoxes(f"{name}:{reader.line_num}: is no line of a table ({error})") from None


def class_names(content: bytes, name: str = CLASSES) -> list[str]:
    """A name of each line that is not empty. Raises BadBoxes."""
    return [nfc(line.strip()) for line in _text(content, name, LARGEST_NAMES).splitlines() if line.strip()]


def from_coco(files: Iterable[tuple[str, bytes]]) -> tuple[list[Line], list[str]]:
    """The lines of (name, content) of each file, and the names of the categories, by their id. Raises BadBoxes."""
    lines: list[Line] = []
    categories: dict[Any, str] = {}
    size = 0
    for number, (name, content) in enumerate(files):
        size += len(content)
        if size > coco.LARGEST:
            raise BadBoxes(f"{name!r:.200}: {size} bytes of annotations are more than {coco.LARGEST}")
        try:
            values = coco.loaded(name, content)
            own = _by_id(name, values, "categories", "name")
            paths = _by_id(name, values, "images", "file_name")
            kinds = {"image_id": int, "category_id": int}
            annotations = coco.entries_of(name, values, "annotations", kinds)
        except BadMask as error:
            raise BadBoxes(str(error)) from None
        if number and own != categories:
            raise BadBoxes(f"{name!r:.200} has other categories than the files before it")
        categories = own
        for place, image in enumerate(values["images"]):
            lines.append(Line(f"{name}: images[{place}]", nfc(image["file_name"]), size=_size(image)))
        for place, each in enumerate(annotations):
            where = f"{name}: annotations[{place}]"
            for key, known in (("image_id", paths), ("category_id", own)):
                if each[key] not in known:
                    raise BadBoxes(f"{where}.{key}: {each[key]} is not the id of one of {len(known)} {_OF[key]}")
            if not each.get("iscrowd"):
                edges = _of_bbox(each.get("bbox"), f"{where}.bbox")
                lines.append(Line(where, nfc(paths[each["image_id"]]), own[each["category_id"]], edges))
    return lines, [categories[key] for key in sorted(categories)]


def _text(content: bytes, name: str, largest: int) -> str:
    if len(content) > largest:
        raise BadBoxes(f"{name}: {len(content)} bytes are more than {largest}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadBoxes(f"{name}: is not UTF-8 text ({error})") from None


_OF = {"image_id": "images", "category_id": "categories"}


def _by_id(name: str, values: Mapping[str, Any], field: str, key: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for place, each in enumerate(coco.entries_of(name, values, field, {"id": int, key: str})):
        if each["id"] in found:
            raise BadBoxes(f"{name}: {field}[{place}].id: {each['id']} is there twice")
        found[each["id"]] = nfc(each[key])
    return found


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def _of_bbox(bbox: object, where: str) -> tuple[float, float, float, float]:
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise BadBoxes(f"{where}: {bbox!r:.80} is not left, top, width, height")
    left, top, width, height = (_number(value, where) for value in bbox)
    for name, length in (("width", width), ("height", height)):
        if not length > 0:
            raise BadBoxes(f"{where}: {name} {length:g} is not more than 0")
    return left, top, left + width, top + height


def _number(value: object, where: str) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        return float(value)
    except (ValueError, OverflowError):
        raise BadBoxes(f"{where}: {value!r:.40} is not a number") from None
