"""The images of an audit: those of a data set, with what a service decided about them if that was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ouzel.errors import InvalidArgument
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds import training_data
from ouzel_protos.text import is_label
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.audit.dataset import Example
    from ouzel.worker.kinds.context import JobContext

_LONGEST_SERVICE = 200
_MOST_RECORDED = 20_000
_NAMED = 3  # images in a message


def check_recorded(recorded: Sequence[pb.RecordedPrediction]) -> None:
    """Refuses recorded predictions that are too many, or name an image twice or none. Raises InvalidArgument."""
    if len(recorded) > _MOST_RECORDED:
        raise InvalidArgument(f"recorded: {len(recorded)} are more than {_MOST_RECORDED}", field="recorded")
    seen: set[str] = set()
    for number, each in enumerate(recorded):
        field = f"recorded[{number}]"
        if not each.path or each.path in seen:
            problem = "is given twice" if each.path else "is empty"
            raise InvalidArgument(f"{field}.path: {each.path!r:.80} {problem}", field=f"{field}.path")
        if not is_label(each.label):
            raise InvalidArgument(f"{field}.label: {each.label!r:.80} is not a label", field=f"{field}.label")
        if len(each.service) > _LONGEST_SERVICE:
            raise InvalidArgument(
                f"{field}.service: has more than {_LONGEST_SERVICE} characters", field=f"{field}.service"
            )
        seen.add(each.path)


def check_paths(spec: pb.AuditSpec, catalogue: Catalogue) -> None:
    """Refuses recorded predictions on images that an uploaded data set does not have. Raises InvalidArgument."""
    if catalogue.uploads is None or catalogue.owner is None or "://" in spec.dataset or not spec.recorded:
        return
    there = {entry.path for entry in catalogue.uploads.entries(catalogue.owner, spec.dataset)}
    for number, each in enumerate(spec.recorded):
        if each.path not in there:
            field = f"recorded[{number}].path"
            raise InvalidArgument(f"{field}: the data set has no image {each.path!r:.80}", field=field)


def examples(spec: pb.AuditSpec, context: JobContext) -> list[Example]:
    """The images that a job audits.

    Args:
        spec: A checked spec.
        context: Of the job; hears what was left out.

    Returns:
        One example per image, in the order of their paths.

    Raises:
        InvalidArgument: Recorded predictions name images that the data set does not have.
        OuzelError: The data set cannot be read or used.
    """
    from ouzel.grounding.examples import audited

    images = training_data.examples(spec.dataset, context, training=False)
    recorded = {each.path: each for each in spec.recorded}
    if missing := sorted(recorded.keys() - {image.name for image in images}):
        named = ", ".join(repr(each)[:80] for each in missing[:_NAMED])
        raise InvalidArgument(
            f"recorded: {len(missing)} images are not in the data set, or cannot be used: {named}", field="recorded"
        )
    made = []
    for image in images:
        claim = recorded.get(image.name)
        if recorded and claim is None:
            continue
        shown = audited(image, held_out=image.split == "test")
        if claim is not None:
            time = claim.time.ToJsonString() if claim.HasField("time") else ""
            shown = replace(shown, label=claim.label, service=claim.service, time=time)
        made.append(shown)
    return made
