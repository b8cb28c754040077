"""Data sets and their reports, from messages of the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from types import MappingProxyType
from typing import Any

from google.protobuf import json_format

from ouzel_client._types.datasets import Dataset, DatasetReport, Duplicates
from ouzel_protos.v1 import dataset_pb2 as pb


def dataset(message: pb.Dataset) -> Dataset:
    """An uploaded data set."""
    return Dataset(
        message.id,
        message.title,
        message.create_time.ToDatetime(tzinfo=UTC),
        message.images,
        message.bytes,
        _sorted(message.classes),
        message.masks,
        tuple(message.mask_classes),
        tuple(message.box_classes),
        message.boxes,
    )


def report(message: pb.DatasetReport) -> DatasetReport:
    """What a check says."""
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
    """The same, from the fields that a check of a job gives."""
    return report(json_format.ParseDict(dict(values), pb.DatasetReport(), ignore_unknown_fields=True))


def _sorted(counts: Mapping[str, int]) -> Mapping[str, int]:
    return MappingProxyType(dict(sorted(counts.items())))
