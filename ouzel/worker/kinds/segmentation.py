"""Fine-tuning by the recipe "segment": the features of a model of the store learn the class of each pixel.

Artifacts: report.html, report.json, images.json (mean IoU of each test image), curves.png, worst/00-looks.png, ...
Summary: model, version, digest, promoted, served, miou, miou_low, miou_high (95 %), pixel_accuracy and the other
figures of `ouzel.finetune.segmentation.report`; notes, absent where all went well; early, as of a classifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ouzel.errors import InvalidArgument
from ouzel.worker.kinds import lineage as lineages
from ouzel.worker.kinds import masked_data, promotion
from ouzel.worker.kinds.context import File, JobContext, JobInterrupted, JobOutput
from ouzel.worker.kinds.early import FIRST, SECOND, Early, Published
from ouzel.worker.kinds.finetune_progress import Told
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Recipe, Section
    from ouzel.finetune.segmentation import Segmented
    from ouzel.finetune.segmentation.comparison import Beside
    from ouzel.finetune.segmentation.results import SegmentationReport
    from ouzel.models import Model

_LONG = ("history", "confusion")
_GROWING, _FEW = ("labels", "ious"), 20  # classes


def validate(spec: pb.FinetuneSpec) -> None:
    """Refuses what the recipe cannot do. Raises InvalidArgument."""
    if spec.promote == pb.FinetuneSpec.IF_GROUNDED:
        raise InvalidArgument(
            "promote: if_grounded judges classifiers; a segmentation can be promoted never, always or if_better",
            field="promote",
        )


def run(spec: pb.FinetuneSpec, context: JobContext, base: Model, recipe: Recipe) -> JobOutput:
    """Learns, compares with the present default of the name, publishes, and reports."""
    from ouzel.finetune import Diverged
    from ouzel.finetune.segmentation import segment

    examples, classes = masked_data.examples(spec.dataset, context)
    told = Told(context)
    early = Early(spec, context, told) if spec.early else None
    versions = _Versions(spec, context, base, early)
    try:
        made = segment(
            base,
            examples,
            classes,
            recipe,
            seed=spec.seed,
            image_size=spec.image_size,
            max_training_seconds=spec.max_training_seconds,
            on_event=told,
            resume=told.resumed,
            batch_scale=context.batch_scale,
            early=None if early is None else versions.first,
        )
    except Diverged:
        told.keep_best()
        if early is not None:
            early.tell_what_stays()
        raise
    for note in made.notes:
        context.log(note, pb.Log.WARNING)
    return versions.last(made)


@dataclass
class _Versions:
    """The versions of one job, as `classifier.Versions`; segmentations have no gate."""

    spec: pb.FinetuneSpec
    context: JobContext
    base: Model
    early: Early | None

    def first(self, made: Segmented) -> None:
        """Publishes the decoder that has learnt alone."""
        assert self.early is not None
        self.early.give(made, lambda: self._published(made, *self._judged(made, FIRST), FIRST, {}))

    def last(self, made: Segmented) -> JobOutput:
        """Publishes what the training came to, unless it is no better than the decoder alone; and reports."""
        from ouzel.finetune.report.curves import OVERLAPS
        from ouzel.finetune.report.early import early_section
        from ouzel.finetune.segmentation.early import improvement

        early = self.early
        if early is None:
            present, served = self._judged(made, FIRST)
            report = self._report(made, served)
            return self._output(report, self._published(made, present, served, FIRST, {}))
        found = early.compared(improvement(early.network, made))
        metrics = lineages.metrics(made.test)
        if not found.better:
            report = self._report(made if found.same else early.network, self._before(early.network))
            drawn = made.history if made.split.validation and not found.same else ()
            return self._output(report, early.first, [early_section(early.outcome(found, metrics), drawn, OVERLAPS)])
        present, served = self._judged(made, SECOND)
        report = self._report(made, self._before(made) if present == early.first.name else served)
        more = early.improves_on(found)
        second = early.second(lambda: self._published(made, present, served, SECOND, more))
        return self._output(report, second, [early_section(early.outcome(found, metrics, second), (), OVERLAPS)])

    def _judged(self, made: Segmented, number: int) -> tuple[str, Beside | None]:
        """The present default and how it compares; the decoder alone only as far as its promotion needs that."""
        from ouzel.finetune.segmentation.comparison import beside_counts

        early = self.early
        present = promotion.present_default(self.spec, self.context, number)
        if present is None:
            return "", None
        name = f"{present.name}@{present.version}"
        if early is not None and number == SECOND and name == early.first.name:
            return name, beside_counts(name, early.network.counts, made)
        if early is not None and number == FIRST and self.spec.promote != pb.FinetuneSpec.IF_BETTER:
            return name, None
        return name, self._beside(present, made)

    def _beside(self, other: Model, made: Segmented) -> Beside:
        from ouzel.finetune.segmentation.comparison import beside

        return beside(other, made, lambda done, of: self.context.progress(done, of, phase="comparing"))

    def _before(self, made: Segmented) -> Beside | None:
        assert self.early is not None
        other = promotion.version_of(self.early.first.before, self.context)
        return None if other is None else self._beside(other, made)

    def _report(self, made: Segmented, served: Beside | None) -> SegmentationReport:
        from ouzel.finetune.segmentation import report as reports

        self.context.progress(0, phase="reporting")
        return reports.make_segmentation_report(self.base, made, served)

    def _published(
        self, made: Segmented, present: str, served: Beside | None, number: int, more: Mapping[str, Any]
    ) -> Published:
        spec, context = self.spec, self.context
        lineage = {**lineages.lineage(spec, context, self.base, made, number), **more}
        if context.stop_wanted():
            raise JobInterrupted
        figure = promotion.Figure("is the mean IoU on the held-out images", made.test.miou)
        if served is not None:
            figure = promotion.Figure(figure.what, figure.value, served.name, served.miou, served.problem)
        named = promotion.publish(
            spec,
            context,
            self.base,
            made,
            figure,
            lineage=lineage,
            verdict=None,
            arch=made.arch,
            publication=number,
            after=self.early.first.named["version"] if self.early is not None and number == SECOND else "",
        )
        return Published(named, lineage, present)

    def _output(self, report: SegmentationReport, published: Published, sections: Sequence[Section] = ()) -> JobOutput:
        from ouzel.finetune.segmentation import report as reports

        written = reports.segmentation_files(report, published.name, published.lineage, sections)
        files = [File(name, media_type, content) for name, (media_type, content) in written.items()]
        named = self.early.named_now(published) if self.early is not None else published.named
        figures = {key: value for each in sections for key, value in each.figures.items()}
        return JobOutput(files, {**_short(reports.segmentation_summary(report)), **figures, **named})


def _short(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Without what grows with classes and epochs: lists of jobs carry their results."""
    few = len(summary["labels"]) <= _FEW
    return {key: value for key, value in summary.items() if key not in _LONG and (few or key not in _GROWING)}
