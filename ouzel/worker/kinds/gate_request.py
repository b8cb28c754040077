"""Whether a job that tunes asks for a gate or a repair, and whether its data set allows that. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ouzel.checks import parameter
from ouzel.errors import InvalidArgument
from ouzel.worker.catalog.catalog import Catalogue
from ouzel_protos.recipes import GATE_LIMITS, REPAIRS
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.grounding import GateMargins

_MOST_SCENES = 2000


def gated(spec: pb.FinetuneSpec) -> bool:
    """Whether the gate decides on the promotion."""
    return spec.promote == pb.FinetuneSpec.IF_GROUNDED


def repairs(spec: pb.FinetuneSpec) -> bool:
    """Whether the base is repaired."""
    return spec.recipe in REPAIRS.values()


def validate(spec: pb.FinetuneSpec, catalogue: Catalogue) -> None:
    """Refuses margins out of range, and data sets that no gate or repair can work with.

    Raises:
        InvalidArgument: It names the field.
    """
    for name, allowed in GATE_LIMITS.items():
        if (value := getattr(spec, name)) != 0:
            parameter(name, value, allowed)
    given = [name for name in (*GATE_LIMITS, "scenes") if getattr(spec, name)]
    if given and not gated(spec) and (given[0] == "accuracy_margin" or not repairs(spec)):
        raise InvalidArgument(f"{given[0]}: is of the gate; it needs promote=if_grounded", field=given[0])
    if not (gated(spec) or repairs(spec)):
        return
    field = "promote" if gated(spec) else "recipe"
    what = "if_grounded" if gated(spec) else spec.recipe
    if "://" in spec.dataset:
        raise InvalidArgument(
            f"{field}: {what} needs masks or boxes of the objects, which only uploaded data sets have", field=field
        )
    assert catalogue.uploads is not None  # `training_data.check` has seen to that
    assert catalogue.owner is not None
    entries = catalogue.uploads.entries(catalogue.owner, spec.dataset)
    known = [entry for entry in entries if entry.HasField("mask") or entry.boxes]
    if not known:
        raise InvalidArgument(
            f"{field}: {what} needs masks or boxes of the objects, and the data set has none; upload it with masks",
            field=field,
        )
    held_out = [entry for entry in entries if entry.split == "test"]
    if gated(spec) and held_out and not any(entry.split == "test" for entry in known):
        raise InvalidArgument(
            f"{field}: {what} needs masks or boxes of the objects on held-out images; none of those in test has one",
            field=field,
        )
    labels = {entry.label for entry in entries}
    if len(spec.scenes) > _MOST_SCENES:
        raise InvalidArgument(f"scenes: names more than {_MOST_SCENES}", field="scenes")
    for number, label in enumerate(spec.scenes):
        if label not in labels or label in spec.scenes[:number]:
            problem = "is named twice" if label in labels else "is no class of the data set"
            raise InvalidArgument(f"scenes[{number}]: {label!r:.80} {problem}", field=f"scenes[{number}]")
    if repairs(spec):
        _check_repair(spec, catalogue, labels, {entry.label for entry in known})


def _check_repair(spec: pb.FinetuneSpec, catalogue: Catalogue, labels: set[str], known: set[str]) -> None:
    theirs = set(catalogue.model(spec.base, "base").labels)
    if theirs != labels:
        odd = sorted(theirs ^ labels)[0]
        problem = "which the data set has no images of" if odd in theirs else "which the base does not know"
        raise InvalidArgument(
            f"dataset: {spec.recipe} needs images of the classes of the base; there is {odd!r:.80}, {problem}",
            field="dataset",
        )
    if lacking := sorted(labels - known):
        raise InvalidArgument(
            f"dataset: {spec.recipe} needs an object that it can cut out of each class, and no image of "
            f"{lacking[0]!r:.80} has a mask or boxes",
            field="dataset",
        )
    if spec.image_size:
        raise InvalidArgument(
            f"image_size: {spec.recipe} keeps the input of the base; leave it out", field="image_size"
        )


def margins_of(spec: pb.FinetuneSpec) -> GateMargins:
    """The margins of a checked spec."""
    from ouzel.grounding import GateMargins

    given = {name: getattr(spec, name) for name in GATE_LIMITS if getattr(spec, name)}
    return GateMargins(scenes=tuple(spec.scenes), **given)
