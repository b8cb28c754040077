"""What jobs do: one module per kind, of the name that the kind has in JobSpec.

A module has two functions. `validate(spec, catalogue)` runs in the service, without torch, and raises OuzelError for
what can never work. `run(spec, context)` runs in the job's own process and returns a `JobOutput`. It may have three
more, which run in the service too: `pin(spec, catalogue)` fills in what a valid spec leaves open and the job depends
on, `report(spec, catalogue)` returns what `validate_only` answers, and `work(spec, catalogue)` the `Work` that quotes
go by, or None.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Protocol, cast

from ouzel.errors import InvalidArgument
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds.context import JobContext, JobOutput
from ouzel_protos.v1 import job_pb2 as pb

VARIABLE = "OUZEL_JOB_KINDS"  # names another package of kinds, for tests; read in `find` only
NAMES = tuple(field.name for field in pb.JobSpec.DESCRIPTOR.oneofs_by_name["kind"].fields)
# What jobs import that takes long, for the process that they are forked from.
LIBRARIES = (
    "timm",
    "torchvision.models",
    "jinja2",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "skimage.io",
    "ouzel.maximize.report.gallery",
    "ouzel.finetune.report",
    "ouzel.models.photographs",
    "ouzel.models.store",
    "ouzel.worker.datasets.check",
    "ouzel.worker.processes.job_process",
    "ouzel.worker.store.sqlite",
    *(f"{__name__}.{each}" for each in (*NAMES, "checkpoint", "publishing")),
)


class Kind(Protocol):
    """What a module of a kind has."""

    def validate(self, spec: Any, catalogue: Catalogue) -> None:
        """Refuses a spec that can never work. Raises OuzelError."""

    def run(self, spec: Any, context: JobContext) -> JobOutput:
        """Does the job. Raises JobInterrupted, LeaseLost or OuzelError."""


def pinned(name: str, spec: pb.JobSpec, catalogue: Catalogue) -> pb.JobSpec:
    """A copy of a valid spec, with what the kind's functions `pin` and `work` fill in."""
    copy = pb.JobSpec()
    copy.CopyFrom(spec)
    kind = find(name)
    if (pin := getattr(kind, "pin", None)) is not None:
        pin(getattr(copy, name), catalogue)
    copy.ClearField("scale")
    copy.ClearField("work_units")
    work = getattr(kind, "work", None)
    if work is not None and (done := work(getattr(copy, name), catalogue)) is not None:
        copy.scale, copy.work_units = done.scale, done.units
    return copy


def report_of(name: str, spec: pb.JobSpec, catalogue: Catalogue) -> Mapping[str, Any] | None:
    """What a kind says of a valid spec before a job exists.

    Args:
        name: The kind.
        spec: Which has this kind.
        catalogue: The models as the owner sees them.

    Returns:
        Values of JSON's types; None if the kind has no function `report`.
    """
    report = getattr(find(name), "report", None)
    return None if report is None else dict(report(getattr(spec, name), catalogue))


def libraries() -> list[str]:
    """Names of modules that jobs import and that take long to import, as far as they are installed."""
    named: tuple[str, ...] = getattr(importlib.import_module(os.environ.get(VARIABLE, __name__)), "LIBRARIES", ())
    return [each for each in named if find_spec(each.partition(".")[0]) is not None]


def find(name: str) -> Kind:
    """The kind of this name. Raises InvalidArgument for a spec without a kind."""
    if name not in NAMES:
        raise InvalidArgument(f"spec: must be one of {', '.join(NAMES)}", field="spec")
    return cast(Kind, importlib.import_module(f"{os.environ.get(VARIABLE, __name__)}.{name}"))
