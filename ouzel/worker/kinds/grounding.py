"""What a job that tunes does beside the training, if a gate or a repair is asked for: audits, and the verdict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ouzel.errors import InvalidArgument
from ouzel.task_names import CLASSIFICATION
from ouzel.worker.kinds.context import JobContext, JobInterrupted
from ouzel.worker.kinds.finetune_progress import Told
from ouzel.worker.kinds.gate_request import gated, margins_of, repairs
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.audit.dataset import DatasetDesign, Event
    from ouzel.finetune import Comparison, Section, Split, Tuned
    from ouzel.grounding import Audited, GateVerdict
    from ouzel.models import Model

_LARGEST_LIST = 16_000  # characters of JSON; an entry of the log has 65,535 bytes


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
        self._done: dict[str, Audited] = {}  # by this attempt

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
        # Of two versions the first may be the default that the second is compared with.
        check_images(self._parts.test, self.images, self.margins, first=present is None and not self._spec.early)

    def run(
        self, base: Model, tuned: Tuned, served: Comparison | None, present: Model | None, role: str = "new"
    ) -> Grounding:
        """Audits the new version, the base if it is repaired, and the present default if the gate asks for it.

        Args:
            base: Of the job.
            tuned: The new version.
            served: The present default beside it.
            present: The present default; None if there is none.
            role: "new", or "first" of the version that is published before it.

        Raises:
            JobInterrupted: The job is to stop.
            OuzelError: The images cannot be audited.
        """
        new = self.of(role, base, tuned)
        repaired = self._of("base", base) if repairs(self._spec) else None
        if not gated(self._spec):
            return Grounding(new, repaired, None)
        default = None
        if present is not None:
            default = next((one for one in self._done.values() if _same(one.model, present)), None)
            default = default or self._of("present", present)
        return Grounding(new, repaired, self._verdict(new, default, tuned, served, present))

    def of(self, role: str, base: Model, tuned: Tuned) -> Audited:
        """The audit of a new version. role: as in `run`."""
        return self._of(role, _new_model(self._spec, base, tuned))

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

        if (audited := self._done.get(role)) is not None and _same(audited.model, model):
            return audited
        known = self._states.get(role)
        resumed = known["state"] if known is not None and known["digest"] == model.digest else None
        phases = {
            "new": "auditing the new version",
            "first": "auditing the first version",
            "base": "auditing the base",
            "present": "auditing the default",
        }

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
        self._done[role] = done
        return done


def _same(one: Model, other: Model) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("digest", "labels", "preprocessing"))


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
