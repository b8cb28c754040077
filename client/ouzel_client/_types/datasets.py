"""Data sets, and what a check says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Dataset:
    """An uploaded data set.

    Attributes:
        id: The digest of its manifest, hexadecimal.
        title: For people.
        created: When it was first uploaded.
        images: Number of images.
        bytes: Size of the images.
        classes: Number of images of each class; empty if the images have label maps, or boxes of classes.
        masks: Number of images with a mask.
        mask_classes: Names of the classes of label maps, by their number; empty for other images.
        box_classes: Names of the classes of boxes, by their number from 1 on; empty for other images.
        boxes: Number of boxes of all images.
        left_out: (name, reason) of the files that an upload did not use. Empty unless this comes from an upload.
    """

    id: str
    title: str
    created: datetime
    images: int
    bytes: int
    classes: Mapping[str, int]
    masks: int
    mask_classes: tuple[str, ...] = ()
    box_classes: tuple[str, ...] = ()
    boxes: int = 0
    left_out: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Duplicates:
    """Images that are the same, or nearly so.

    Attributes:
        paths: The images.
        exact: Whether they are the same.
        labels_differ: Whether they have different labels.
        across_splits: Whether some are for training and others for validation or test.
    """

    paths: tuple[str, ...]
    exact: bool
    labels_differ: bool
    across_splits: bool


@dataclass(frozen=True)
class DatasetReport:
    """What a check of all images says. As a text, it is a line for each finding.

    Attributes:
        usable: Whether a job can train on the data set.
        problems: Why it cannot.
        warnings: What should be corrected, but does not prevent training.
        refused: (path, reason) of the images that cannot be used.
        classes: Number of images of each class that can be used.
        duplicates: Groups of images that are the same, or nearly so.
        images: Number of images that can be used.
    """

    usable: bool
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    classes: Mapping[str, int]
    duplicates: tuple[Duplicates, ...] = field(repr=False)
    images: int

    def __str__(self) -> str:
        counts = ", ".join(f"{label} {count}" for label, count in self.classes.items())
        lines = [f"{self.images} images, {'usable' if self.usable else 'not usable'}: {counts}"]
        lines += [f"problem: {each}" for each in self.problems] + [f"warning: {each}" for each in self.warnings]
        lines += [f"left out: {path}: {reason}" for path, reason in self.refused]
        for each in self.duplicates:
            what = "the same" if each.exact else "nearly the same"
            what += ", by different labels" * each.labels_differ + ", on both sides of the split" * each.across_splits
            lines.append(f"{what}: {', '.join(each.paths)}")
        return "\n".join(lines)
