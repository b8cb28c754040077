"""The images and label maps that a segmentation learns from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ouzel.errors import InvalidArgument
from ouzel.worker.kinds.annotated_data import LeftOut, Refer, used
from ouzel_protos import mask_folders
from ouzel_protos.label_maps import BadMask
from ouzel_protos.v1 import dataset_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Example
    from ouzel.worker.kinds.context import JobContext


def examples(dataset: str, context: JobContext) -> tuple[list[Example], tuple[str, ...]]:
    """The images that a job can use, near duplicates in groups, and the names of the classes.

    Args:
        dataset: Id of an upload, or a URI.
        context: Of the job; hears what was left out.

    Raises:
        OuzelError: The data set cannot be read or used.
    """
    from ouzel.finetune import Example

    found = used(dataset, context, "mask_classes", _collected)
    context.log(f"{len(found.entries)} images with label maps of {len(found.classes)} classes")
    return [
        Example(
            entry.path,
            "",
            hashlib.sha256(f"{entry.file.sha256} {entry.mask.sha256}".encode()).hexdigest(),
            partial(found.read, entry.file.sha256),
            entry.split,
            found.groups.get(entry.path, ""),
            read_label_map=partial(found.read, entry.mask.sha256),
        )
        for entry in found.entries
    ], found.classes


def _collected(
    reads: Mapping[str, Callable[[], bytes]], ref: Refer
) -> tuple[list[pb.DatasetEntry], tuple[str, ...], LeftOut]:
    found = mask_folders.collect(reads)
    entries = []
    for image in found.images:
        entry = pb.DatasetEntry(path=image.path, split=image.split)
        entry.file.CopyFrom(ref(image.read))
        try:
            entry.mask.CopyFrom(ref(image.read_label_map))
        except BadMask as error:
            raise InvalidArgument(f"dataset: {image.path!r:.200}: mask: {error}", field="dataset") from None
        entries.append(entry)
    return entries, found.classes, found.left_out
