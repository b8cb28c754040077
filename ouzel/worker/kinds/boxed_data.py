"""The images and boxes of objects that a detector learns from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ouzel.worker.kinds.annotated_data import LeftOut, Refer, used
from ouzel_protos import box_folders, manifest
from ouzel_protos.v1 import dataset_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Example
    from ouzel.worker.kinds.context import JobContext


def examples(dataset: str, context: JobContext) -> tuple[list[Example], tuple[str, ...]]:
    """The images that a job can use, near duplicates in groups, and the names of the classes, that of number 1 first.

    Args:
        dataset: Id of an upload, or a URI.
        context: Of the job; hears what was left out.

    Raises:
        OuzelError: The data set cannot be read or used.
    """
    from ouzel.finetune.detection import boxed

    found = used(dataset, context, "box_classes", _collected)
    boxes = sum(len(entry.boxes) for entry in found.entries)
    context.log(f"{len(found.entries)} images with {boxes} boxes of {len(found.classes)} classes")
    return [
        boxed(
            entry.path,
            partial(found.read, entry.file.sha256),
            [(box.left, box.top, box.right, box.bottom) for box in entry.boxes],
            [box.index for box in entry.boxes],
            split=entry.split,
            group=found.groups.get(entry.path, ""),
        )
        for entry in found.entries
    ], found.classes


def _collected(
    reads: Mapping[str, Callable[[], bytes]], ref: Refer
) -> tuple[list[pb.DatasetEntry], tuple[str, ...], LeftOut]:
    """Images are measured later, within the limits of what strangers send."""
    found = box_folders.collect(reads)
    entries = []
    for image in found.images:
        entry = pb.DatasetEntry(path=image.path, split=image.split)
        entry.file.CopyFrom(ref(image.read))
        manifest.add_boxes(entry, image.boxes, image.labels)
        entries.append(entry)
    return entries, found.classes, found.left_out
