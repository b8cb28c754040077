"""What a job that tunes does beside the training, if a gate or a repair is asked for: checks, audits, the verdict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ouzel.checks import parameter
from ouzel.errors import InvalidArgument
from ouzel.task_names import CLASSIFICATION
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds.context import JobContext, JobInterrupted
from ouzel.worker.kinds.finetune_progress import Told
from ouzel_protos.recipes import GATE_LIMITS, REPAIRS
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.audit.dataset import DatasetDesign, Event
    from ouzel.finetune import Comparison, Section, Split, Tuned
    from ouzel.grounding import Audited, GateMargins, GateVerdict
    from ouzel.models import Model

_MOST_SCENES = 2000
_LARGEST_LIST = 16_000  # characters of JSON; an entry of the log has 65,535 bytes


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


@dataclass(frozen=True)
class Grounding:
    """What the audits of a job show.

    Attributes:
        new: Of the new version.
        base: Of the base; None if it is not repaired.
        verdict: Of the gate; None if it is not asked.
    """

    new: Audited
    base: Audited | None
    verdict: GateVerdict | None

    def facts(self, spec: pb.FinetuneSpec) -> dict[str, Any]:
        """What goes on record of the verdict: on which weights, against which, by which figures."""
        facts = {"name": spec.name, "dataset": spec.dataset, "digest": self.new.model.digest, **self.lineage()}
        return shortened(facts)

    def lineage(self) -> dict[str, Any]:
        """What the lineage of the new version keeps."""
        return {} if self.verdict is None else {"gate": without_rules(self.verdict)}


def without_rules(verdict: GateVerdict) -> dict[str, Any]:
    """A verdict without the rules in words, which are the same for all and are part of the report."""
    return {name: value for name, value in verdict.to_dict().items() if name != "rules"}


def shortened(values: Any) -> Any:
    """Values with a digest in place of each list that is too long for an entry of the log, such as 2000 classes."""
    if isinstance(values, Mapping):
        return {name: shortened(value) for name, value in values.items()}
    if isinstance(values, list):
        text = json.dumps(values)
        if len(text) > _LARGEST_LIST:
            return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "values": len(values)}
        return [shortened(value) for value in values]
    return values


class Audits:
    """The audits of one job, which a later attempt goes on with.

    Args:
        spec: Of the job.
        context: Of the job.
        parts: Of the data set; what is held out is audited.
        told: Saves.
    """

    def __init__(self, spec: pb.FinetuneSpec, context: JobContext, parts: Split, told: Told) -> None:
        from ouzel.grounding import audited_images

        self._spec, self._context, self._told = spec, context, told
        self._parts = parts
        self.margins = margins_of(spec)
        self.design: DatasetDesign = self.margins.design(spec.seed)
        self.images = audited_images(parts.test, spec.seed)
        self._states: dict[str, Any] = dict(told.audits)

    def check(self, present: Model | None, classes: set[str]) -> None:
        """Refuses what no version could pass, before something is trained.

        Args:
            present: The present default of the name; None if the new version is the first.
            classes: Of the data set.

        Raises:
            InvalidArgument: There are too few held-out images, some are learnt from, too, or the present default tells
                other classes apart.
        """
        from ouzel.grounding import check_apart, check_images

        if not gated(self._spec):
            return
        check_apart(self._parts)
        if present is not None:
            present.need(CLASSIFICATION, "comparisons of the gate", "promote")
        if present is not None and set(present.labels) != classes:
            odd = sorted(set(present.labels) ^ classes)[0]
            raise InvalidArgument(
                f"promote: if_grounded compares with the present default {present.name}@{present.version}, which tells "
                f"other classes apart: {odd!r:.80} is not among the classes of both",
                field="promote",
            )
        check_images(self._parts.test, self.images, self.margins, first=present is None)

    def run(self, base: Model, tuned: Tuned, served: Comparison | None, present: Model | None) -> Grounding:
        """Audits the new version, the base if it is repaired, and the present default if the gate asks for it.

        Raises:
            JobInterrupted: The job is to stop.
            OuzelError: The images cannot be audited.
        """
        new = self._of("new", _new_model(self._spec, base, tuned))
        repaired = self._of("base", base) if repairs(self._spec) else None
        if not gated(self._spec):
            return Grounding(new, repaired, None)
        default = None
        if present is not None:
            same = all(getattr(present, name) == getattr(base, name) for name in ("digest", "labels", "preprocessing"))
            default = repaired if repaired is not None and same else self._of("present", present)
        return Grounding(new, repaired, self._verdict(new, default, tuned, served, present))

    def _verdict(
        self, new: Audited, default: Audited | None, tuned: Tuned, served: Comparison | None, present: Model | None
    ) -> GateVerdict:
        from ouzel.grounding import AccuracyPairs, Check, judge

        if default is None or served is None or present is None:
            return judge(self.margins, self.design, new.evidence)
        against = f"{present.name}@{present.version}"
        if served.problem:  # it has become the default while the job ran
            alone = judge(self.margins, self.design, new.evidence)
            check = Check("accuracy", False, f"Not compared with {against}: {served.problem}.")
            return replace(alone, passed=False, against=against, checks=(check, *alone.checks))
        right = round(tuned.test.accuracy * tuned.test.images)
        fixed, broken = len(served.fixed), len(served.broken)
        pairs = AccuracyPairs(fixed, broken, right - fixed, tuned.test.images)
        return judge(self.margins, self.design, new.evidence, accuracy=pairs, present=default.evidence, against=against)

    def _of(self, role: str, model: Model) -> Audited:
        """The audit of a network; if an earlier attempt has audited the very same one, it is gone on with."""
        from ouzel.audit.dataset import Stopped
        from ouzel.grounding import audit_model

        known = self._states.get(role)
        resumed = known["state"] if known is not None and known["digest"] == model.digest else None
        phases = {"new": "auditing the new version", "base": "auditing the base", "present": "auditing the default"}

        def tell(event: Event) -> None:
            self._context.progress(event.step, event.steps, phase=phases[role])
            if self._context.save_wanted():
                keep(event.state())

        def keep(state: Mapping[str, Any]) -> None:
            self._states[role] = {"digest": model.digest, "state": dict(state)}
            self._told.keep_audits(self._states)

        try:
            done = audit_model(
                model, self.images, self.design, on_event=tell, resume=resumed, stop=self._context.stop_wanted
            )
        except Stopped as stopped:
            keep(stopped.state)
            raise JobInterrupted from None
        return done


def sections(grounded: Grounding) -> tuple[Section, ...]:
    """What the report says of the gate and of the repair."""
    from ouzel.grounding import gate_section, repair_section

    made = [] if grounded.verdict is None else [gate_section(grounded.verdict, grounded.new)]
    if grounded.base is not None:
        made.append(repair_section(grounded.base, grounded.new))
    return tuple(made)


def _new_model(spec: pb.FinetuneSpec, base: Model, tuned: Tuned) -> Model:
    """The tuned network on the base's device, as the archive will hold it."""
    import copy

    from ouzel.models.archive import digest_in_archive
    from ouzel.models.card import Card

    network = copy.deepcopy(tuned.network).to(next(base.network.parameters()).device)
    card = Card(spec.name, "1", base.arch, tuned.labels, tuned.preprocessing, "")
    return replace(
        base,
        name=spec.name,
        version="(new)",
        network=network,
        labels=tuned.labels,
        preprocessing=tuned.preprocessing,
        digest=digest_in_archive(card, tuned.network.state_dict()),
        card={},
    )
