"""What jobs do: one module per kind, of the name that the kind has in JobSpec.

A module has two functions. `validate(spec, catalogue)` runs in the service, without torch, and raises OuzelError for
what can never work. `run(spec, work)` runs in the job's own process and returns a `Done`. It may have two more, which
also run in the service: `pin(spec, catalogue)` fills in what a valid spec leaves open and the job depends on;
`report(spec, catalogue)` returns what `validate_only` answers.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol, cast

from ouzel.errors import InvalidArgument
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds.context import Done, Work
from ouzel_protos.v1 import job_pb2 as pb

NAMES = tuple(field.name for field in pb.JobSpec.DESCRIPTOR.oneofs_by_name["kind"].fields)


class Kind(Protocol):
    def validate(self, spec: Any, catalogue: Catalogue) -> None: ...

    def run(self, spec: Any, work: Work) -> Done: ...


def pinned(name: str, spec: pb.JobSpec, catalogue: Catalogue, package: str = __name__) -> pb.JobSpec:
    """A copy of a valid spec, with what the kind's function `pin` fills in."""
    copy = pb.JobSpec()
    copy.CopyFrom(spec)
    if (pin := getattr(find(name, package), "pin", None)) is not None:
        pin(getattr(copy, name), catalogue)
    return copy


def report_of(name: str, spec: pb.JobSpec, catalogue: Catalogue, package: str = __name__) -> Mapping[str, Any] | None:
    """What a kind has to say of a valid spec beforehand, by its function `report`; None if it has none."""
    report = getattr(find(name, package), "report", None)
    return None if report is None else dict(report(getattr(spec, name), catalogue))


def find(name: str, package: str = __name__) -> Kind:
    """Raises InvalidArgument for a spec without a kind."""
    if name not in NAMES:
        raise InvalidArgument(f"spec: must be one of {', '.join(NAMES)}", field="spec")
    return cast(Kind, importlib.import_module(f"{package}.{name}"))
