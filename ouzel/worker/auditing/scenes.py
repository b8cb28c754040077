"""The pool of an audit, from a data set of the caller's owner: images whose objects are known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ouzel import images
from ouzel.audit import Pool, Scene, View
from ouzel.audit.options import Claim
from ouzel.audit.region import mask_of_file, region_of
from ouzel.errors import InvalidArgument
from ouzel.worker.auditing.requests import boxes
from ouzel.worker.datasets.store import Datasets
from ouzel_protos.v1 import dataset_pb2 as pb

_KEPT = 256  # scenes in memory, of 200 kB each
_SORTS = 2  # the claimed class, and all others
_SPARE = 2  # times as many as are needed, because some may not be of use
_EMPTY = np.zeros((0, 0), dtype=bool)


def candidates(datasets: Datasets, owner: str, dataset: str) -> list[pb.DatasetEntry]:
    """The images of a data set whose object somebody has marked.

    Raises:
        NotFound: The owner has no such data set.
        InvalidArgument: It has neither masks nor boxes, or they are not those of objects with a label.
    """
    stored = datasets.get(owner, dataset)
    if stored.mask_classes or stored.box_classes:
        what = "label maps" if stored.mask_classes else "boxes of classes"
        raise InvalidArgument(
            f"dataset: {dataset[:12]} has {what}; audits need images with labels, whose masks or boxes are of the "
            "object with the label",
            field="dataset",
        )
    entries = [each for each in datasets.entries(owner, dataset) if each.HasField("mask") or each.boxes]
    if not entries:
        raise InvalidArgument(
            f"dataset: {dataset[:12]} has neither masks nor boxes, so no background and no object can be taken from it",
            field="dataset",
        )
    return entries


def draw(
    datasets: Datasets, owner: str, entries: Sequence[pb.DatasetEntry], *, image: bytes, label: str, count: int,
    seed: int, view: View,
) -> Pool:  # fmt: skip
    """Reads the images that an audit needs of a data set.

    Args:
        datasets: Holds them.
        owner: Who calls.
        entries: Of `candidates`.
        image: The audited image's file, which is not drawn.
        label: The claimed class.
        count: How many of each sort.
        seed: Of what is drawn.
        view: Of the audited model.

    Returns:
        A pool of some images of the claimed class and of others.
    """
    own = hashlib.sha256(image).hexdigest()
    known = {each.path: each for each in entries}
    marked = Pool([Scene(each.path, each.label, _EMPTY, _EMPTY) for each in entries if each.file.sha256 != own])
    scenes: list[Scene] = []
    for number in range(_SORTS):
        of_sort: list[Scene] = []
        for each in marked.draw(label, number == 0, _SPARE * _SORTS * count, (seed, number)):
            if len(of_sort) < _SORTS * count and (scene := _scene(datasets, owner, known[each.name], view)) is not None:
                of_sort.append(scene)
        scenes += of_sort
    return Pool(scenes)


def _scene(datasets: Datasets, owner: str, entry: pb.DatasetEntry, view: View) -> Scene | None:
    """None for an image that cannot be read, or shows no object, or nothing else."""
    mask = entry.mask.sha256 if entry.HasField("mask") else None
    drawn = () if mask is not None else boxes(entry.boxes)
    try:
        seen = _seen(datasets, owner, (entry.file.sha256, mask), drawn, view)
    except (InvalidArgument, OSError):
        return None
    return None if seen is None else Scene(entry.path, entry.label, *seen)


@lru_cache(_KEPT)
def _seen(
    datasets: Datasets,
    owner: str,
    digests: tuple[str, str | None],
    drawn: tuple[tuple[int, int, int, int], ...],
    view: View,
) -> tuple[np.ndarray, np.ndarray] | None:
    """What the audited model sees of an image, and of its object. Digests: of its file, and of that of its mask."""
    image, mask = digests
    picture = images.decode(datasets.read(owner, image))
    width, height = images.original_size(picture)
    marked = None if mask is None else mask_of_file(datasets.read(owner, mask))
    region = region_of(Claim("", mask=marked, boxes=drawn), view, width, height)
    return None if region is None else (view.picture(picture), region)
