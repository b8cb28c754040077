"""Folders of images with boxes: which objects are in which image, and what the classes are called.

    images/[SPLIT/]PATH.jpg                     the images
    boxes.csv                                   a line for each object; classes by their name
    classes.txt                                 beside boxes.csv, if wanted: all classes in their order, one a line
    annotations.json, annotations/*.json        or COCO's annotations; classes are the categories, by their id

SPLIT may also lie above images. Client, worker and library read folders, zip files and listings of other file systems
by these rules. An image of which nothing is said, and a line of an image that is not there, are refused: one of the two
is lost. So are boxes that break the rules of `objects`, and a box that is there twice. Errors name file and line.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ouzel_protos import annotated_folders, box_tables, folders, objects
from ouzel_protos.annotated_folders import IMAGES, Read, is_annotations, lies_in, put, refuse_lonely, splits_of, without
from ouzel_protos.box_tables import CLASSES, CSV, Line
from ouzel_protos.folders import BadFolder
from ouzel_protos.objects import BadBoxes, Box

SizeOf = Callable[[bytes], tuple[int, int]]  # of an image as it is shown: (width, height); raises ValueError


@dataclass(frozen=True)
class BoxedImage:
    """An image with its objects.

    Attributes:
        path: Within the data set.
        split: "", "train", "validation" or "test".
        read: Gives the file of the image.
        boxes: left, top, right, bottom of each object.
        labels: The class of each object, from 1 on.
    """

    path: str
    split: str
    read: Read
    boxes: tuple[Box, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class BoxedImages:
    """images: sorted by path. classes: that of number 1 first. left_out: (name, reason) of every file not used."""

    images: tuple[BoxedImage, ...]
    classes: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


def collect(reads: Mapping[str, Read], size_of: SizeOf | None = None) -> BoxedImages:
    """Finds the objects of each image.

    Args:
        reads: What gives the content of each file, by its name: a relative path with "/" between its parts.
        size_of: Measures images, which boxes must not leave; None leaves that to whoever reads the images later.

    Raises:
        BadFolder: The order of the files does not tell the boxes, or images and boxes do not fit each other.
        BadBoxes: A table, its boxes or its classes are wrong.
    """
    images, tables, annotations, named, left_out = _sorted(sorted(reads))
    if not images:
        raise BadFolder(f"no {folders.FORMATS} file lies in a folder images/")
    if bool(tables) == bool(annotations):
        both = (f"both {CSV} and" if tables else f"neither {CSV} nor") + " annotations.json"
        raise BadFolder(f"there is {both}")
    splits = splits_of(images)
    known: list[str] | None = None
    if tables:
        lines = [line for name in tables for line in box_tables.from_csv(reads[name](), name)]
        known = [name for each in named for name in box_tables.class_names(reads[each](), each)] or None
    else:
        lines, known = box_tables.from_coco([(name, reads[name]()) for name in annotations])
    by_path = _by_path(lines, images, loose=bool(annotations))
    refuse_lonely(f"images of which {tables[0] if tables else annotations[0]} says nothing", images.keys() - by_path)
    if known is None:
        known = sorted({line.label for line in lines if line.label is not None})
        _check_labels(lines)
        if not known:
            raise BadBoxes("no image has an object")
    classes = objects.check_classes(known)
    for line in lines:
        if line.label is not None and line.label not in classes:
            raise BadBoxes(f"{line.where}: label: {line.label!r:.80} is none of the {len(classes)} classes")
    numbers = {name: number for number, name in enumerate(classes, 1)}
    made = [
        BoxedImage(path, splits.get(path.split("/", maxsplit=1)[0], ""), reads[name], *_objects(mine, numbers, size))
        for path, name in sorted(images.items())
        for mine in (by_path[path],)
        for size in (None if size_of is None else _measured(mine, reads[name], size_of),)
    ]
    if not any(image.boxes for image in made):
        raise BadBoxes("no image has an object")
    return BoxedImages(tuple(made), classes, tuple(sorted(left_out)))


def _sorted(
    names: Sequence[str],
) -> tuple[dict[str, str], list[str], list[str], list[str], list[tuple[str, str]]]:
    """Images by path, tables, annotations, names of classes, and what is left out with the reason."""
    parts, left_out = annotated_folders.parts_of(names, ())
    images: dict[str, str] = {}
    tables: list[str] = []
    annotations: list[str] = []
    classes: list[str] = []
    for name, each in parts.items():
        reason = ""
        if len(each) == 1 and each[0].lower() == CSV:
            tables.append(name)
        elif len(each) == 1 and each[0].lower() == CLASSES:
            classes.append(name)
        elif is_annotations(each):
            annotations.append(name)
        elif lies_in(each, IMAGES) and PurePosixPath(each[-1]).suffix.lower() in folders.SUFFIXES:
            reason = put(images, without(each, IMAGES), name)
        else:
            reason = f"no {folders.FORMATS} file in images/, no {CSV}, no annotations"
        if reason:
            left_out.append((name, reason))
    return images, tables, annotations, classes, left_out


def _check_labels(lines: Sequence[Line]) -> None:
    """Names the line of a label that cannot be a class; all others are classes."""
    seen: set[str] = set()
    for line in lines:
        if line.label is not None and line.label not in seen:
            try:
                objects.check_classes([line.label])
            except BadBoxes as error:
                raise BadBoxes(f"{line.where}: label: {error}") from None
            seen.add(line.label)


def _by_path(lines: Sequence[Line], images: Mapping[str, str], *, loose: bool) -> dict[str, list[Line]]:
    """The lines of each image. loose: one may be named by its file alone, if there is one of this name."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in images:
        by_name[PurePosixPath(path).name].append(path)
    found: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        paths = [line.path] if line.path in images else []
        if not paths and loose:
            paths = by_name.get(PurePosixPath(line.path).name, [])
        if len(paths) != 1:
            what = "is no image" if not paths else f"are {len(paths)} images"
            raise BadFolder(f"{line.where}: there {what} images/{line.path!r:.200}")
        mine = found[paths[0]]
        if mine and (line.label is None or mine[0].label is None) and not (loose and line.label is not None):
            raise BadFolder(f"{line.where}: {line.path!r:.200} is there already, in {mine[0].where}")
        mine.append(line)
    return found


def _measured(lines: Sequence[Line], read: Read, size_of: SizeOf) -> tuple[int, int]:
    try:
        size = size_of(read())
    except ValueError as error:
        raise BadBoxes(f"{lines[0].where}: {lines[0].path!r:.200} {error}") from None
    for line in lines:
        if line.size is not None and line.size != size:
            told, real = (f"{width} x {height} pixels" for width, height in (line.size, size))
            raise BadBoxes(f"{line.where}: {line.path!r:.200} has {told}, it says; as it is shown (EXIF) it has {real}")
    return size


def _objects(
    lines: Sequence[Line], numbers: Mapping[str, int], size: tuple[int, int] | None
) -> tuple[tuple[Box, ...], tuple[int, ...]]:
    boxes: dict[tuple[Box, int], str] = {}
    for line in lines:
        if line.label is None:
            continue
        try:
            box = objects.checked(line.edges, size)
            objects.check_count(len(boxes) + 1)
        except BadBoxes as error:
            raise BadBoxes(f"{line.where}: {error}") from None
        before = boxes.setdefault((box, numbers[line.label]), line.where)
        if before != line.where:
            raise BadBoxes(f"{line.where}: the same box and label as {before}")
    return tuple(box for box, _ in boxes), tuple(label for _, label in boxes)
