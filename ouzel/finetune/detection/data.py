"""Images with boxes of objects."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ouzel.errors import InvalidArgument
from ouzel.finetune.data import Example, Split, split_annotated
from ouzel.finetune.recipes import Recipe
from ouzel_protos import box_folders, folders, objects, pictures
from ouzel_protos.folders import BadFolder
from ouzel_protos.objects import BadBoxes, Box
from ouzel_protos.pictures import BadPicture

_log = logging.getLogger(__name__)


def boxed_from_folder(folder: str | Path, follow_links: bool = False) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """The images of a folder with the boxes of their objects, and the names of the classes, that of number 1 first.

    Args:
        folder: In one of the layouts of `ouzel_protos.box_folders`.
        follow_links: Also links that lead out of the folder.

    Raises:
        InvalidArgument: Something is wrong; the message names file, line, value and limit.
    """
    try:
        files, left_out = folders.walk(Path(folder), follow_links)
        found = box_folders.collect({name: path.read_bytes for name, path in files.items()}, pictures.shown_size)
    except (BadFolder, BadBoxes) as error:
        raise InvalidArgument(f"data: {error}", field="data") from None
    except OSError as error:
        raise InvalidArgument(f"data: {error.filename or folder}: {error.strerror}", field="data") from None
    for name, reason in (*found.left_out, *left_out):
        _log.warning("%r of %s is left out: %s", name, folder, reason)
    made = tuple(boxed(each.path, each.read, each.boxes, each.labels, split=each.split) for each in found.images)
    return made, found.classes


def boxed(
    name: str,
    read: Callable[[], bytes],
    boxes: Sequence[Box],
    labels: Sequence[int],
    *,
    split: str = "",
    group: str = "",
) -> Example:
    """An example, whose file is read once, for its digest and its size, and again when it is needed.

    Args:
        name: Of the image, for reports.
        read: Gives its file.
        boxes: left, top, right, bottom of each object, in pixels of the image as it is shown.
        labels: The class of each object, from 1 on.
        split: As in `Example`.
        group: As in `Example`.

    Raises:
        InvalidArgument: The image cannot be read, or a box is not within it.
    """
    content = read()
    try:
        size = pictures.shown_size(content)
        kept = tuple(objects.checked(box, size) for box in boxes)
    except (BadPicture, BadBoxes) as error:
        raise InvalidArgument(f"data: {name}: {error}", field="data") from None
    told = json.dumps([list(map(list, kept)), list(labels)])
    digest = hashlib.sha256(hashlib.sha256(content).digest() + told.encode()).hexdigest()
    return Example(name, "", digest, read, split, group, boxes=kept, box_labels=tuple(labels), size=size)


def split_boxed(data: Sequence[Example], classes: int, recipe: Recipe, seed: int) -> Split:
    """Divide images with boxes, those with objects and those without in the same shares. Raises InvalidArgument."""
    for each in data:
        wrong = [label for label in each.box_labels if not 1 <= label <= classes]
        if wrong or len(each.boxes) != len(each.box_labels) or min(each.size) < 1:
            what = f"label {wrong[0]} is not within 1..{classes}" if wrong else "needs a size, and a label for each box"
            raise InvalidArgument(f"data: {each.name}: {what}", field="data")
    parts = _stratified(data, recipe, seed)
    for name in ("train", "validation", "test"):
        part: tuple[Example, ...] = getattr(parts, name)
        if part and not any(each.boxes for each in part):
            raise InvalidArgument(
                f"data: none of the {len(part)} {name} images has an object; {len(data)} images are there", field="data"
            )
    return parts


def _stratified(data: Sequence[Example], recipe: Recipe, seed: int) -> Split:
    marked = [replace(each, label="objects" if each.boxes else "none") for each in data]
    parts = split_annotated(marked, recipe, seed)
    train, validation, test = (
        tuple(replace(each, label="") for each in part) for part in (parts.train, parts.validation, parts.test)
    )
    return Split(train, validation, test)
