"""What becomes of a classifier that was tuned: it is compared, judged, published, and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ouzel.worker.kinds import early as earlies
from ouzel.worker.kinds import grounding, promotion
from ouzel.worker.kinds import lineage as lineages
from ouzel.worker.kinds.context import File, JobContext, JobInterrupted, JobOutput
from ouzel.worker.kinds.early import FIRST, SECOND, Early, Published
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Comparison, Report, Section, Tuned
    from ouzel.finetune.search import Found
    from ouzel.grounding import GateVerdict
    from ouzel.models import Model

_LONG = ("history", "classes")
_GROWING, _FEW = ("labels", "confusion"), 20  # classes
_COMPARED = (pb.FinetuneSpec.IF_BETTER, pb.FinetuneSpec.IF_GROUNDED)


@dataclass(frozen=True)
class _Judged:
    """A tuning beside the present default (NAME@VERSION; "" without one), and what its gate found."""

    present: str
    served: Comparison | None
    grounded: grounding.Grounding | None


@dataclass
class Versions:
    """The versions of one job: one, or two if it answers early.

    Attributes:
        spec: Of the job.
        context: Of the job.
        base: The model that is tuned.
        audits: Of the gate and the repair; None if neither is asked for.
        early: The two versions; None if there is one.
        found: What a search has found; None without one.
    """

    spec: pb.FinetuneSpec
    context: JobContext
    base: Model
    audits: grounding.Audits | None
    early: Early | None
    found: Found | None = None

    def first(self, tuned: Tuned) -> None:
        """Publishes the head alone."""
        assert self.early is not None
        self.early.give(tuned, lambda: self._published(tuned, self._judged(tuned, FIRST), FIRST, {}))

    def last(self, tuned: Tuned) -> JobOutput:
        """Publishes what the training came to, unless it is no better than the head alone; and reports."""
        from ouzel.finetune.early import improvement
        from ouzel.finetune.report.curves import ACCURACIES
        from ouzel.finetune.report.early import early_section

        early = self.early
        if early is None:
            judged = self._judged(tuned, FIRST)
            report = self._report(tuned, judged.served)
            return self._output(report, self._published(tuned, judged, FIRST, {}), judged.grounded)
        found = early.compared(improvement(early.network, tuned))
        metrics = lineages.metrics(tuned.test)
        if not found.better:
            report = self._report(tuned if found.same else early.network, self._before(early.network))
            drawn = () if found.same else tuned.history
            section = early_section(early.outcome(found, metrics), drawn, ACCURACIES)
            return self._output(report, early.first, self._first_grounded(early), [section])
        judged = self._judged(tuned, SECOND)
        now = judged.present == early.first.name
        report = self._report(tuned, self._before(tuned) if now else judged.served)
        more = early.improves_on(found)
        second = early.second(lambda: self._published(tuned, judged, SECOND, more))
        section = early_section(early.outcome(found, metrics, second), (), ACCURACIES)
        return self._output(report, second, judged.grounded, [section])

    def _judged(self, tuned: Tuned, number: int) -> _Judged:
        """Beside the present default, by the gate if it is asked; the head alone only as far as its promotion needs."""
        from ouzel.finetune.report.comparison import compare_trainings

        early, context = self.early, self.context
        present = promotion.present_default(self.spec, context, number)
        name = "" if present is None else f"{present.name}@{present.version}"
        served = None
        if early is not None and number == SECOND and name == early.first.name:
            served = compare_trainings(early.network, tuned, name)
        elif present is not None and (early is None or number == SECOND or self.spec.promote in _COMPARED):
            served = self._beside(present, tuned)
        grounded = None
        if self.audits is not None:
            role = "first" if early is not None and number == FIRST else "new"
            grounded = self.audits.run(self.base, tuned, served, present, role)
        return _Judged(name, served, grounded)

    def _beside(self, other: Model, tuned: Tuned) -> Comparison:
        from ouzel.finetune import compare

        return compare(other, tuned, lambda done, of: self.context.progress(done, of, phase="comparing"))

    def _before(self, tuned: Tuned) -> Comparison | None:
        """A tuning beside the default from before the job."""
        assert self.early is not None
        other = promotion.version_of(self.early.first.before, self.context)
        return None if other is None else self._beside(other, tuned)

    def _first_grounded(self, early: Early) -> grounding.Grounding | None:
        """What the gate found of the head alone, maybe in an attempt before this one."""
        from ouzel.grounding import GateVerdict

        if self.audits is None or early.first.gate is None:
            return None
        audited = self.audits.of("first", self.base, early.network)
        return grounding.Grounding(audited, None, GateVerdict.from_dict(early.first.gate))

    def _report(self, tuned: Tuned, served: Comparison | None) -> Report:
        from ouzel.finetune import report as reports

        self.context.progress(0, phase="reporting")
        return reports.make_report(self.base, tuned, served)

    def _published(self, tuned: Tuned, judged: _Judged, number: int, more: Mapping[str, Any]) -> Published:
        spec, context, grounded = self.spec, self.context, judged.grounded
        lineage = {**lineages.lineage(spec, context, self.base, tuned, number), **more}
        if grounded is not None:
            lineage |= grounded.lineage()
        if self.found is not None:
            lineage["search"] = self.found.summary()
        if context.stop_wanted():
            raise JobInterrupted
        verdict: GateVerdict | None = None if grounded is None else grounded.verdict
        entry = None
        if grounded is not None and verdict is not None:
            entry = context.record("gate", grounded.facts(spec))
        named = promotion.publish(
            spec,
            context,
            self.base,
            tuned,
            promotion.accuracy_of(tuned, judged.served),
            lineage=lineage,
            verdict=verdict,
            publication=number,
            after=self.early.first.named["version"] if self.early is not None and number == SECOND else "",
        )
        gate = None if verdict is None else verdict.to_dict()
        proof = earlies.proof_of(entry, number, early=self.early is not None)
        return Published(named, lineage, judged.present, gate, proof)

    def _output(
        self,
        report: Report,
        published: Published,
        grounded: grounding.Grounding | None,
        more: Sequence[Section] = (),
    ) -> JobOutput:
        from ouzel.finetune import report as reports
        from ouzel.finetune.report.search import search_section

        sections = (*more, *(() if grounded is None else grounding.sections(grounded)))
        if self.found is not None:
            sections = (*sections, search_section(self.found))
        written = reports.files(report, published.name, published.lineage, sections)
        made = [File(name, media_type, content) for name, (media_type, content) in written.items()]
        if self.early is not None and self.early.first is not published:
            made += self.early.first.files()
        figures = {key: value for each in sections for key, value in each.figures.items()}
        named = self.early.named_now(published) if self.early is not None else published.named
        return JobOutput(made + published.files(), {**_short(reports.summary(report)), **figures, **named})


def _short(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Without what grows with classes and epochs, where there are many: lists of jobs carry their results."""
    few = len(summary["labels"]) <= _FEW
    return {key: value for key, value in summary.items() if key not in _LONG and (few or key not in _GROWING)}
