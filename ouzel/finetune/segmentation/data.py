"""Images with label maps."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ouzel.errors import InvalidArgument
from ouzel.finetune.data import Example
from ouzel_protos import folders, label_maps, mask_folders
from ouzel_protos.folders import BadFolder
from ouzel_protos.label_maps import BadMask

_log = logging.getLogger(__name__)


def masked_from_folder(folder: str | Path, follow_links: bool = False) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """The images of a folder with their label maps, and the names of the classes.

    Args:
        folder: In one of the layouts of `ouzel_protos.mask_folders`.
        follow_links: Also links that lead out of the folder.

    Raises:
        InvalidArgument: The masks or classes cannot be told, or an image has none. Masks themselves are read later.
    """
    try:
        files, left_out = folders.walk(Path(folder), follow_links)
        found = mask_folders.collect({name: path.read_bytes for name, path in files.items()})
    except (BadFolder, BadMask) as error:
        raise InvalidArgument(f"data: {error}", field="data") from None
    except OSError as error:
        raise InvalidArgument(f"data: {error.filename or folder}: {error.strerror}", field="data") from None
    for name, reason in (*found.left_out, *left_out):
        _log.warning("%r of %s is left out: %s", name, folder, reason)
    return tuple(masked(each.path, each.read, each.read_label_map, each.split) for each in found.images), found.classes


def masked(
    name: str, read: Callable[[], bytes], read_label_map: Callable[[], bytes], split: str = "", group: str = ""
) -> Example:
    """An example, whose files are read once, for their digest, and again when they are needed.

    Args:
        name: Of the image, for reports.
        read: Gives the file of the image.
        read_label_map: Gives its label map, a PNG file.
        split: As in `Example`.
        group: As in `Example`.

    Raises:
        InvalidArgument: The mask cannot be read.
    """
    digest = hashlib.sha256(hashlib.sha256(read()).digest())
    try:
        digest.update(hashlib.sha256(read_label_map()).digest())
    except BadMask as error:
        raise InvalidArgument(f"data: {name}: mask: {error}", field="data") from None
    return Example(name, "", digest.hexdigest(), read, split, group, read_label_map=read_label_map)


def label_map(classes: int) -> Callable[[Example, tuple[int, int]], np.ndarray]:
    """Reads the label maps of examples of an image size (width, height); it raises InvalidArgument for bad ones."""

    def read(example: Example, size: tuple[int, int]) -> np.ndarray:
        if example.read_label_map is None:
            raise InvalidArgument("mask: there is none", field="data")
        try:
            return label_maps.read(example.read_label_map(), size, classes)
        except BadMask as error:
            raise InvalidArgument(f"mask: {error}", field="data") from None

    return read
