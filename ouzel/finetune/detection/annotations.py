"""Images with boxes: a folder `images/` with `boxes.csv`, or with `annotations.json` in COCO's form.

boxes.csv has the columns path, label, left, top, right, bottom, in pixels of the image as it is shown (EXIF). A line
with a path alone is an image without objects. Nothing is mended: one wrong box is an error that names file, place,
value and limit.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from ouzel.errors import InvalidArgument, NotFound
from ouzel_protos.text import is_label, nfc, shown

COLUMNS = ("path", "label", "left", "top", "right", "bottom")
CSV, COCO = "boxes.csv", "annotations.json"
LARGEST_FILE = 256 * 2**20  # bytes of annotations
MOST_BOXES, MOST_CLASSES = 500, 999  # of an image; beside the background
BACKGROUND = "background"
_TURNED = {5, 6, 7, 8}  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Boxed:
    """An image and its objects.

    Attributes:
        path: Of the image's file.
        size: (width, height) in pixels, as it is shown.
        boxes: left, top, right, bottom of each object, in these pixels.
        labels: The class of each object; 0 is the background, which no object has.
    """

    path: Path
    size: tuple[int, int]
    boxes: tuple[Box, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class _Line:
    """One annotation as it was written. where: file and place, for errors; label: None of an image without objects."""

    where: str
    path: str
    label: str | None = None
    box: Sequence[Any] = ()


def boxed_from_folder(folder: str | Path, classes: Sequence[str] | None = None) -> tuple[list[Boxed], tuple[str, ...]]:
    """Read a folder.

    Args:
        folder: With `images/`, and `boxes.csv` or `annotations.json`.
        classes: That there may be, without the background; None takes those that are there, by name (CSV), or all
            categories by id (COCO).

    Returns:
        The images by path, and the classes, the background first.

    Raises:
        NotFound: A file is missing.
        InvalidArgument: Something is wrong; the message names file, place, value and limit.
    """
    folder = Path(folder)
    files = [folder / name for name in (CSV, COCO) if (folder / name).is_file()]
    if len(files) != 1:
        raise NotFound(f"{folder}: has {'both of' if files else 'neither'} {CSV} and {COCO}; give one of them")
    (file,) = files
    if file.stat().st_size > LARGEST_FILE:
        raise InvalidArgument(f"{file.name}: {file.stat().st_size} bytes are more than {LARGEST_FILE}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{file.name}: is not UTF-8 text ({error})") from None
    if file.name == CSV:
        lines, known = list(_from_csv(text)), None
    else:
        lines, known = _from_coco(text)
    names = _classes(lines, classes or known)
    return _images(folder / "images", lines, names), (BACKGROUND, *names)


def _from_csv(text: str) -> Iterator[_Line]:
    reader = csv.reader(text.splitlines())
    header = next(reader, [])
    if tuple(each.strip() for each in header) != COLUMNS:
        raise InvalidArgument(f"{CSV}:1: {','.join(header)!r:.80} is not {','.join(COLUMNS)}")
    for row in reader:
        where = f"{CSV}:{reader.line_num}"
        if not row:
            continue
        if len(row) != len(COLUMNS):
            raise InvalidArgument(f"{where}: {len(row)} values where there are {len(COLUMNS)} columns")
        path, label, *edges = (each.strip() for each in row)
        if not label and not any(edges):
            yield _Line(where, path)
        else:
            yield _Line(where, path, label, edges)


def _from_coco(text: str) -> tuple[list[_Line], list[str]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{COCO}: is not JSON ({error})") from None
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for name in ("images", "annotations", "categories"):
        part = content.get(name) if isinstance(content, Mapping) else None
        if not isinstance(part, list) or not all(isinstance(each, Mapping) for each in part):
            raise InvalidArgument(f"{COCO}: {name} is not a list of objects")
        parts[name] = part
    names = _by_id(parts["categories"], "categories", "name")
    paths = _by_id(parts["images"], "images", "file_name")
    lines = [_Line(f"{COCO}: images[{place}]", path) for place, path in enumerate(paths.values())]
    for place, each in enumerate(parts["annotations"]):
        where = f"{COCO}: annotations[{place}]"
        if each.get("iscrowd"):
            continue  # a region of many objects, of which no box is known
        for key, known in (("image_id", paths), ("category_id", names)):
            if not isinstance(each.get(key), int) or each[key] not in known:
                raise InvalidArgument(f"{where}.{key}: {each.get(key)!r:.40} is not the id of one of {len(known)}")
        box = each.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise InvalidArgument(f"{where}.bbox: {box!r:.80} is not left, top, width, height")
        left, top, width, height = (_number(value, f"{where}.bbox") for value in box)
        lines.append(
            _Line(where, paths[each["image_id"]], names[each["category_id"]], (left, top, left + width, top + height))
        )
    return lines, [names[key] for key in sorted(names)]


def _by_id(part: Sequence[Mapping[str, Any]], name: str, key: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for place, each in enumerate(part):
        number, text = each.get("id"), each.get(key)
        if not isinstance(number, int) or isinstance(number, bool) or not isinstance(text, str) or number in found:
            raise InvalidArgument(f"{COCO}: {name}[{place}]: needs an id of its own and a {key}")
        found[number] = text
    return found


def _classes(lines: Sequence[_Line], known: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(known or sorted({nfc(line.label) for line in lines if line.label is not None}))
    if len(set(names)) != len(names):
        raise InvalidArgument("classes: a name comes twice")
    if not 1 <= len(names) <= MOST_CLASSES:
        raise InvalidArgument(f"classes: {len(names)} of them; there are 1 to {MOST_CLASSES}")
    for name in names:
        if not is_label(name) or name.casefold() in (BACKGROUND, f"__{BACKGROUND}__"):
            raise InvalidArgument(f"classes: {shown(name, 80)} cannot be the label of an object")
    return names


def _images(folder: Path, lines: Sequence[_Line], classes: Sequence[str]) -> list[Boxed]:
    by_path: dict[str, list[_Line]] = {}
    for line in lines:
        by_path.setdefault(line.path, []).append(line)
    numbers = {name: number for number, name in enumerate(classes, 1)}
    made = []
    for path, mine in sorted(by_path.items()):
        file = _file(folder, path, mine[0].where)
        size = _size(file, mine[0].where)
        objects = [line for line in mine if line.label is not None]
        if len(objects) > MOST_BOXES:
            raise InvalidArgument(f"{objects[MOST_BOXES].where}: {path!r} has more than {MOST_BOXES} boxes")
        boxes = tuple(_box(line, size) for line in objects)
        made.append(Boxed(file, size, boxes, tuple(_label(line, numbers) for line in objects)))
    if not any(one.boxes for one in made):
        raise InvalidArgument(f"{folder.parent}: no image has an object")
    return made


def _file(folder: Path, path: str, where: str) -> Path:
    plain = PurePosixPath(path)
    if not path or plain.is_absolute() or ".." in plain.parts or "\\" in path or "\0" in path:
        raise InvalidArgument(f"{where}: path {shown(path, 80)} is not that of a file below images/")
    file = folder / plain
    if not file.is_file() or not file.resolve().is_relative_to(folder.resolve()):
        raise NotFound(f"{where}: there is no images/{shown(path, 80)}")
    return file


def _size(file: Path, where: str) -> tuple[int, int]:
    """As the image is shown."""
    try:
        with Image.open(file, formats=("PNG", "JPEG", "WEBP")) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION) in _TURNED
    except Exception as error:  # noqa: BLE001 - Pillow raises nearly every kind on broken files
        raise InvalidArgument(f"{where}: {file.name!r:.80} is no PNG, JPEG or WebP file ({error!s:.80})") from None
    return (height, width) if turned else (width, height)


def _box(line: _Line, size: tuple[int, int]) -> Box:
    left, top, right, bottom = (_number(value, line.where) for value in line.box)
    for name, value, most in (("left", left, 0), ("top", top, 1), ("right", right, 0), ("bottom", bottom, 1)):
        if not 0 <= value <= size[most]:
            what = ("width", "height")[most]
            raise InvalidArgument(f"{line.where}: {name} {value:g} is not within 0..{size[most]}, the image's {what}")
    if left >= right or top >= bottom:
        raise InvalidArgument(
            f"{line.where}: {left:g}, {top:g}, {right:g}, {bottom:g} has no area: left < right and top < bottom"
        )
    return left, top, right, bottom


def _number(value: object, where: str) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise InvalidArgument(f"{where}: {value!r:.40} is not a number") from None
    if not math.isfinite(number):
        raise InvalidArgument(f"{where}: {value!r:.40} is not finite")
    return number


def _label(line: _Line, numbers: Mapping[str, int]) -> int:
    label = nfc(line.label or "")
    if label not in numbers:
        raise InvalidArgument(f"{line.where}: label {shown(label, 80)} is none of the {len(numbers)} classes")
    return numbers[label]
