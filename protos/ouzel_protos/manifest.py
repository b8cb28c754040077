"""What a data set may hold, and its id: the rules that the client and the worker share. Needs protobuf only.

The canonical form is a line of JSON per image, sorted by path, without what is empty; its SHA-256 is the data set's id.
Of images with label maps or with boxes of objects, a line with the names of the classes comes first.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ouzel_protos import label_maps, objects
from ouzel_protos.limits import out_of_range
from ouzel_protos.text import LONGEST_LABEL, is_label, is_line, nfc
from ouzel_protos.v1 import dataset_pb2 as pb

SPLITS = ("", "train", "validation", "test")
LARGEST_FILE = 32 * 2**20  # bytes
MOST_IMAGES = 200_000
MOST_CLASSES = 2000
_LONGEST_PATH = 512  # characters
_MOST_BOXES = 1000
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BadEntry(ValueError):
    """Something that a data set may not hold.

    Attributes:
        field: Path of the field at fault.
    """

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


def check(
    entries: Iterable[pb.DatasetEntry], mask_classes: Sequence[str] = (), box_classes: Sequence[str] = ()
) -> None:
    """Checks entries as far as possible without the files.

    Args:
        entries: The images.
        mask_classes: Names of the classes of their label maps; empty for other images.
        box_classes: Names of the classes of their boxes; empty for other images. Images with labels have neither.

    Raises:
        BadEntry: Names the field.
    """
    _check_names_of_classes(mask_classes, box_classes)
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        at = f"entries[{number}]"
        _check_names(entry, at, bool(mask_classes or box_classes))
        if mask_classes and (entry.label or entry.boxes or not entry.HasField("mask")):
            raise BadEntry(f"{at}: an image with a label map has a mask, no label and no boxes", at)
        if box_classes and (entry.label or entry.HasField("mask")):
            raise BadEntry(f"{at}: an image with boxes of classes has no label and no mask", at)
        _check_boxes(entry, at, len(box_classes))
        if entry.path in seen:
            raise BadEntry(f"{at}.path: {entry.path!r:.200} is there twice", f"{at}.path")
        seen.add(entry.path)
        _check_files(entry, at)
    if len(seen) > MOST_IMAGES:
        raise BadEntry(f"entries: {len(seen)} images are more than {MOST_IMAGES}", "entries")


def _check_names_of_classes(mask_classes: Sequence[str], box_classes: Sequence[str]) -> None:
    if mask_classes and box_classes:
        raise BadEntry("box_classes: a data set has them or mask_classes, and not both", "box_classes")
    try:
        for field, names, rule in (
            ("mask_classes", mask_classes, label_maps.check_classes),
            ("box_classes", box_classes, objects.check_classes),
        ):
            if names and rule(names) != tuple(names):
                raise BadEntry(f"{field}: a name is not composed Unicode (NFC)", field)
    except label_maps.BadMask as error:
        raise BadEntry(f"mask_classes: {error}", "mask_classes") from None
    except objects.BadBoxes as error:
        raise BadEntry(f"box_classes: {error}", "box_classes") from None


def _check_names(entry: pb.DatasetEntry, at: str, unlabelled: bool) -> None:
    check_path(entry.path, f"{at}.path")
    for name in ("path", "label"):
        if getattr(entry, name) != nfc(getattr(entry, name)):
            raise BadEntry(f"{at}.{name}: {getattr(entry, name)!r:.80} is not composed Unicode (NFC)", f"{at}.{name}")
    if not unlabelled and not is_label(entry.label):
        raise BadEntry(
            f"{at}.label: {entry.label!r:.80} is not a line of 1 to {LONGEST_LABEL} characters", f"{at}.label"
        )
    if entry.split not in SPLITS:
        raise BadEntry(f"{at}.split: {entry.split!r:.80} is not one of train, validation, test", f"{at}.split")


def _check_files(entry: pb.DatasetEntry, at: str) -> None:
    check_file(entry.file, f"{at}.file")
    if entry.HasField("mask"):
        check_file(entry.mask, f"{at}.mask")


def _check_boxes(entry: pb.DatasetEntry, at: str, classes: int) -> None:
    """classes: how many the boxes may be of; 0 where boxes have none."""
    if len(entry.boxes) > (objects.MOST_BOXES if classes else _MOST_BOXES):
        most = objects.MOST_BOXES if classes else _MOST_BOXES
        raise BadEntry(f"{at}.boxes: {len(entry.boxes)} are more than {most}", f"{at}.boxes")
    seen: set[tuple[float, ...]] = set()
    for number, box in enumerate(entry.boxes):
        edges = (box.left, box.top, box.right, box.bottom)
        field = f"{at}.boxes[{number}]" if classes else f"{at}.boxes"
        if not classes:
            if not all(map(math.isfinite, edges)) or not (box.left < box.right and box.top < box.bottom):
                raise BadEntry(f"{field}: {edges} is no left, top, right, bottom", field)
            if box.index:
                raise BadEntry(
                    f"{field}.index: {box.index}; without box_classes, boxes have no class", f"{field}.index"
                )
            continue
        if problem := out_of_range(box.index, 1, classes):
            raise BadEntry(f"{field}.index: {problem}, the numbers of box_classes", f"{field}.index")
        try:
            objects.checked(edges)
        except objects.BadBoxes as error:
            raise BadEntry(f"{field}: {error}", field) from None
        if (*edges, box.index) in seen:
            raise BadEntry(f"{field}: {edges} of the class {box.index} is there twice", field)
        seen.add((*edges, box.index))


def add_boxes(entry: pb.DatasetEntry, boxes: Iterable[objects.Box], labels: Iterable[int]) -> None:
    """Adds the objects of an image to its entry. labels: the class of each, from 1 on."""
    for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
        entry.boxes.add(left=left, top=top, right=right, bottom=bottom, index=label)


def check_classes(entries: Iterable[pb.DatasetEntry]) -> None:
    """Checks that there are two classes at least, and not too many. Raises BadEntry."""
    labels = {entry.label for entry in entries}
    if len(labels) < 2:
        what = f"only the class {min(labels)!r:.80}" if labels else "no image"
        raise BadEntry(f"entries: there is {what}; two classes are needed at least", "entries")
    if len(labels) > MOST_CLASSES:
        raise BadEntry(f"entries: {len(labels)} classes are more than {MOST_CLASSES}", "entries")


def check_path(path: str, field: str) -> None:
    """Checks that a path is relative, has "/" between its parts, and stays in its folder. Raises BadEntry."""
    parts = path.split("/")
    if not path or len(path) > _LONGEST_PATH or not is_line(path) or "\\" in path:
        raise BadEntry(
            f"{field}: {path!r:.80} is not 1 to {_LONGEST_PATH} characters that print, without backslash", field
        )
    if any(part in ("", ".", "..") for part in parts) or re.match(r"[A-Za-z]:", path):
        raise BadEntry(f"{field}: {path!r:.200} is not a relative path without '..'", field)


def check_file(file: pb.FileRef, field: str) -> None:
    """Checks a digest and a size; the check of images finds empty files. Raises BadEntry."""
    if not _SHA256.fullmatch(file.sha256):
        raise BadEntry(f"{field}.sha256: {file.sha256!r:.80} is not a SHA-256 in lower-case hex", f"{field}.sha256")
    if problem := out_of_range(file.size, 0, LARGEST_FILE, "bytes"):
        raise BadEntry(f"{field}.size: {problem}", f"{field}.size")


def canonical(
    entries: Iterable[pb.DatasetEntry], mask_classes: Sequence[str] = (), box_classes: Sequence[str] = ()
) -> bytes:
    """The bytes of a data set: always the same for the same entries."""
    named = {"mask_classes": mask_classes, "box_classes": box_classes}
    lines = [json.dumps({key: list(names)}, separators=(",", ":")) for key, names in named.items() if names]
    for entry in sorted(entries, key=lambda each: each.path):
        line: dict[str, Any] = {"path": entry.path, "label": entry.label}
        line |= {"sha256": entry.file.sha256, "size": entry.file.size}
        if entry.split:
            line["split"] = entry.split
        if entry.HasField("mask"):
            line["mask"] = {"sha256": entry.mask.sha256, "size": entry.mask.size}
        if entry.boxes:
            line["boxes"] = [
                [box.left, box.top, box.right, box.bottom, *([box.index] if box.index else [])] for box in entry.boxes
            ]
        lines.append(json.dumps(line, ensure_ascii=True, separators=(",", ":"), sort_keys=True))
    return "".join(f"{line}\n" for line in lines).encode()


def read(content: bytes) -> list[pb.DatasetEntry]:
    """The entries that `canonical` was given, sorted."""
    entries = []
    for line in content.decode().splitlines():
        values = json.loads(line)
        if "mask_classes" in values or "box_classes" in values:
            continue
        entry = pb.DatasetEntry(path=values["path"], label=values["label"], split=values.get("split", ""))
        entry.file.CopyFrom(pb.FileRef(sha256=values["sha256"], size=values["size"]))
        if "mask" in values:
            entry.mask.CopyFrom(pb.FileRef(**values["mask"]))
        for left, top, right, bottom, *index in values.get("boxes", ()):
            entry.boxes.add(left=left, top=top, right=right, bottom=bottom, index=index[0] if index else 0)
        entries.append(entry)
    return entries


def read_mask_classes(content: bytes) -> tuple[str, ...]:
    """The classes of label maps that `canonical` was given."""
    return _first(content, "mask_classes")


def read_box_classes(content: bytes) -> tuple[str, ...]:
    """The classes of boxes that `canonical` was given."""
    return _first(content, "box_classes")


def _first(content: bytes, key: str) -> tuple[str, ...]:
    first, _, _ = content.partition(b"\n")
    return tuple(json.loads(first).get(key, ())) if first else ()


def digest(
    entries: Iterable[pb.DatasetEntry], mask_classes: Sequence[str] = (), box_classes: Sequence[str] = ()
) -> str:
    """The id of a data set: the SHA-256 of `canonical`, in hex."""
    return hashlib.sha256(canonical(entries, mask_classes, box_classes)).hexdigest()
