"""Data sets, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from google.protobuf import json_format

from ouzel_protos.v1 import dataset_pb2 as pb


@dataclass(frozen=True)
class Dataset:
    """id: the digest of its manifest, hex. created: when it was first. bytes: of its images. classes: images of each.
    masks: images with a mask. left_out: (name, reason) of the files that an upload did not use; of that upload only.
    """

    id: str
    title: str
    created: datetime
    images: int
    bytes: int
    classes: Mapping[str, int]
    masks: int
    left_out: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Duplicates:
    """Images that are the same (`exact`) or nearly so; whether they go by different labels, and whether some are for
    training and others for validation or test.
    """

    paths: tuple[str, ...]
    exact: bool
    labels_differ: bool
    across_splits: bool


@dataclass(frozen=True)
class DatasetReport:
    """usable: whether a job would train on it; if not, `problems` say why. warnings: what should be mended but need
    not. refused: (path, reason) of images that are left out. classes: images that can be used, of each.
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


def dataset(message: pb.Dataset) -> Dataset:
    return Dataset(
        message.id,
        message.title,
        message.create_time.ToDatetime(tzinfo=UTC),
        message.images,
        message.bytes,
        _sorted(message.classes),
        message.masks,
    )


def report(message: pb.DatasetReport) -> DatasetReport:
    return DatasetReport(
        message.usable,
        tuple(message.problems),
        tuple(message.warnings),
        tuple((each.path, each.reason) for each in message.refused),
        _sorted(message.classes),
        tuple(
            Duplicates(tuple(each.paths), each.exact, each.labels_differ, each.across_splits)
            for each in message.duplicates
        ),
        message.images,
    )


def report_of(values: Mapping[str, Any]) -> DatasetReport:
    """The same, as a check of a job has it."""
    return report(json_format.ParseDict(dict(values), pb.DatasetReport(), ignore_unknown_fields=True))


def _sorted(counts: Mapping[str, int]) -> Mapping[str, int]:
    return MappingProxyType(dict(sorted(counts.items())))
