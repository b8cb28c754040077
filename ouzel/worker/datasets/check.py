"""What a person should know of a data set before training on it.

`python -m ouzel.worker.datasets.check MANIFEST FILES CACHE` prints it as a DatasetReport: images are decoded there, and
not in the service.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ouzel.errors import DataLoss, InvalidArgument, NotFound
from ouzel.worker.datasets import judging
from ouzel.worker.parent_watch import end_with_parent
from ouzel_protos import label_maps, manifest, objects
from ouzel_protos.v1 import dataset_pb2 as pb

Read = Callable[[str], bytes]  # of a digest
_EDGE = 16  # pixels of a thumbnail
_NEAR = 3  # bits of the hash in which near duplicates may differ
_ALIKE = 0.99  # correlation of their thumbnails
_CROWD = 2000  # of one bucket; beyond, only equal hashes are compared


@dataclass(frozen=True)
class _Seen:
    """One image. hash: 64 bits of differences of neighbours; thumbnail: grey, of mean 0 and length 1; None if flat.

    classes: labels that it counts for; of a label map, those of its pixels; of boxes, theirs.
    """

    refused: str = ""
    classes: tuple[str, ...] = ()
    hash: int = 0
    thumbnail: np.ndarray | None = None


def check(
    entries: Sequence[pb.DatasetEntry],
    read: Read,
    on_image: Callable[[int], None] = lambda _: None,
    mask_classes: Sequence[str] = (),
    box_classes: Sequence[str] = (),
) -> pb.DatasetReport:
    """Looks at every image of a data set.

    Args:
        entries: The data set, sorted by path.
        read: The bytes of a file, by its digest.
        on_image: Hears after each image how many were looked at. What it raises ends the check.
        mask_classes: Names of the classes of label maps; empty for other images.
        box_classes: Names of the classes of boxes; empty for other images.

    Returns:
        What was found: refused images, duplicates, problems, warnings.
    """
    seen: list[_Seen] = []
    with ThreadPoolExecutor() as threads:
        for one in threads.map(lambda entry: _look(entry, read, mask_classes, box_classes), entries):
            seen.append(one)
            on_image(len(seen))
    report = pb.DatasetReport(dataset=manifest.digest(entries, mask_classes, box_classes), images=len(entries))
    kept: list[tuple[pb.DatasetEntry, _Seen]] = []
    for entry, one in zip(entries, seen, strict=True):
        if one.refused:
            report.refused.add(path=entry.path, reason=one.refused)
        else:
            kept.append((entry, one))
    report.classes.update(Counter(label for _, one in kept for label in one.classes))
    report.duplicates.extend(_duplicates(kept))
    usable = [entry for entry, _ in kept]
    if mask_classes:
        judging.judge_label_maps(report, usable, mask_classes)
    elif box_classes:
        judging.judge_boxes(report, usable, box_classes)
    else:
        judging.judge_labels(report, entries)
    report.usable = not report.problems
    return report


def _look(entry: pb.DatasetEntry, read: Read, mask_classes: Sequence[str], box_classes: Sequence[str]) -> _Seen:
    from PIL import Image

    from ouzel.images import decode, original_size

    classes: tuple[str, ...] = (entry.label,)
    try:
        image = decode(read(entry.file.sha256), smallest=4 * _EDGE)
        if mask_classes:
            classes = _look_at_label_map(read(entry.mask.sha256), original_size(image), mask_classes)
        elif entry.HasField("mask"):
            _look_at_mask(read(entry.mask.sha256), original_size(image))
        if box_classes:
            classes = _look_at_objects(entry, original_size(image), box_classes)
        else:
            _look_at_boxes(entry, original_size(image))
    except (InvalidArgument, DataLoss, NotFound) as error:
        return _Seen(refused=str(error))
    grey = image.convert("L")
    steps = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = (steps[:, 1:] > steps[:, :-1]).flatten()
    small = np.asarray(grey.resize((_EDGE, _EDGE), Image.Resampling.BOX), dtype=np.float32).flatten()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    if length < _EDGE:  # nearly uniform: a deviation of one grey level
        return _Seen(classes=classes)
    number = int.from_bytes(np.packbits(bits).tobytes(), "big")
    return _Seen(classes=classes, hash=number, thumbnail=(small / length).astype(np.float16))


def _look_at_label_map(content: bytes, size: tuple[int, int], mask_classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that there are pixels of."""
    try:
        labels = label_maps.read(content, size, len(mask_classes))
    except label_maps.BadMask as error:
        raise InvalidArgument(f"mask: {error}") from None
    return tuple(mask_classes[label] for label in np.unique(labels).tolist() if label != label_maps.IGNORED)


def _look_at_objects(entry: pb.DatasetEntry, size: tuple[int, int], box_classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that there are boxes of."""
    for number, box in enumerate(entry.boxes):
        try:
            objects.checked((box.left, box.top, box.right, box.bottom), size)
        except objects.BadBoxes as error:
            label = box_classes[box.index - 1]
            raise InvalidArgument(f"boxes[{number}], {label!r:.80}: {error}") from None
    return tuple(box_classes[index - 1] for index in sorted({box.index for box in entry.boxes}))


def _look_at_boxes(entry: pb.DatasetEntry, size: tuple[int, int]) -> None:
    width, height = size
    for box in entry.boxes:
        if box.left >= width or box.top >= height or box.right <= 0 or box.bottom <= 0:
            raise InvalidArgument(f"boxes: one lies outside of the {width} x {height} pixels")


def _look_at_mask(content: bytes, size: tuple[int, int]) -> None:
    from ouzel.audit.region import mask_of_file
    from ouzel.images import decode, original_size

    try:
        own, shown = original_size(decode(content)), mask_of_file(content).any()
    except InvalidArgument as error:
        raise InvalidArgument(f"mask: {str(error).removeprefix('image: ')}") from None
    if own != size:
        raise InvalidArgument(f"mask: {own} pixels, the image has {size}")
    if not shown:
        raise InvalidArgument("mask: is black all over; it must be white on the object")


def _duplicates(kept: Sequence[tuple[pb.DatasetEntry, _Seen]]) -> Iterator[pb.DatasetReport.Duplicates]:
    groups = _Groups(len(kept))
    by_digest: dict[str, int] = {}
    for number, (entry, _) in enumerate(kept):
        groups.join(number, by_digest.setdefault(entry.file.sha256, number))
    for a, b in _candidates([one for _, one in kept]):
        first, second = kept[a][1].thumbnail, kept[b][1].thumbnail
        if first is not None and second is not None and float(first.astype(np.float32) @ second) >= _ALIKE:
            groups.join(a, b)
    for members in groups.several():
        entries = [kept[number][0] for number in members]
        held_out = {entry.split in ("validation", "test") for entry in entries if entry.split}
        yield pb.DatasetReport.Duplicates(
            paths=[entry.path for entry in entries],
            exact=len({entry.file.sha256 for entry in entries}) == 1,
            labels_differ=len({entry.label for entry in entries}) > 1,
            across_splits=len(held_out) > 1,
        )


def _candidates(seen: Sequence[_Seen]) -> Iterator[tuple[int, int]]:
    """Pairs whose hashes differ in at most three bits: then one of four quarters of 16 bits is the same."""
    for shift in (0, 16, 32, 48):
        buckets: dict[int, list[int]] = defaultdict(list)
        for number, one in enumerate(seen):
            if one.thumbnail is not None:
                buckets[one.hash >> shift & 0xFFFF].append(number)
        for members in buckets.values():
            if len(members) <= _CROWD:
                pairs: Iterable[tuple[int, int]] = itertools.combinations(members, 2)
                yield from ((a, b) for a, b in pairs if (seen[a].hash ^ seen[b].hash).bit_count() <= _NEAR)
            else:
                first = {seen[number].hash: number for number in reversed(members)}
                yield from ((first[seen[n].hash], n) for n in members if first[seen[n].hash] != n)


class _Groups:
    """Union-find."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def join(self, a: int, b: int) -> None:
        self._parent[self._root(b)] = self._root(a)

    def several(self) -> list[list[int]]:
        """Groups of more than one, each sorted."""
        members: dict[int, list[int]] = defaultdict(list)
        for number in range(len(self._parent)):
            members[self._root(number)].append(number)
        return sorted(group for group in members.values() if len(group) > 1)

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number


def main() -> int:
    """Prints the report on the data set that is named on the command line."""
    end_with_parent()
    from ouzel.worker.artifacts.opening import open_artifacts

    content = Path(sys.argv[1]).read_bytes()
    files = open_artifacts(sys.argv[2], Path(sys.argv[3]), "uploads")
    report = check(
        manifest.read(content),
        files.get,
        mask_classes=manifest.read_mask_classes(content),
        box_classes=manifest.read_box_classes(content),
    )
    sys.stdout.buffer.write(report.SerializeToString(deterministic=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
