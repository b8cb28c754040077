"""The versions of a job that learns in two stages: segmentations and detectors. They have no gate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ouzel.errors import InvalidArgument
from ouzel.worker.kinds import lineage as lineages
from ouzel.worker.kinds import promotion
from ouzel.worker.kinds.context import File, JobContext, JobInterrupted, JobOutput
from ouzel.worker.kinds.early import FIRST, SECOND, Early, Published
from ouzel.worker.kinds.finetune_progress import Told
from ouzel.worker.ranks import launcher
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Section
    from ouzel.finetune.early import Improvement
    from ouzel.finetune.report.curves import Shares
    from ouzel.models import Model

Tell = Callable[[int, int], None]
_LONG = ("history", "confusion")
_FEW = 20  # classes


def check_promotion(spec: pb.FinetuneSpec, what: str) -> None:
    """Refuses the gate, which knows what classifiers rest on. what: comes out. Raises InvalidArgument."""
    if spec.promote == pb.FinetuneSpec.IF_GROUNDED:
        raise InvalidArgument(
            f"promote: if_grounded judges classifiers; {what} can be promoted never, always or if_better",
            field="promote",
        )


@dataclass(frozen=True)
class Made:
    """What is done with what comes out. A result is what the library's training gave, with `arch` and `test`.

    Attributes:
        figure: In words, as in "is the mean IoU on the held-out images".
        value: That of a result.
        improvement: Of a training (second) over its new part alone (first).
        beside: Another model on the test images of a result; tells images done of how many. It has name and problem.
        beside_first: NAME@VERSION and the result of the new part alone, beside a further result.
        served_value: The figure of the other model in what these two give; None if it cannot be compared.
        report: Of the base, a result, and what it is compared with.
        files: Of a report, a title, a lineage and sections.
        summary: Of a report.
        growing: Keys of the summary with an entry for each class.
        shares: What is drawn of the training.
    """

    figure: str
    value: Callable[[Any], float]
    improvement: Callable[[Any, Any], Improvement]
    beside: Callable[[Model, Any, Tell], Any]
    beside_first: Callable[[str, Any, Any], Any]
    served_value: Callable[[Any], float | None]
    report: Callable[[Model, Any, Any], Any]
    files: Callable[[Any, str, Mapping[str, Any], Sequence[Section]], Mapping[str, tuple[str, bytes]]]
    summary: Callable[[Any], Mapping[str, Any]]
    growing: Collection[str]
    shares: Shares


def learnt(spec: pb.FinetuneSpec, context: JobContext, base: Model, made: Made, train: Callable[..., Any]) -> JobOutput:
    """Learns, compares with the present default of the name, publishes, and reports.

    Args:
        spec: Of the job.
        context: Of the job.
        base: The model whose features are used.
        made: What is done with what comes out.
        train: The library's training, with what it learns from; takes the options that a job has.
    """
    from ouzel.finetune import Diverged

    told = Told(context)
    early = Early(spec, context, told) if spec.early else None
    versions = _Versions(spec, context, base, made, early)
    several = {"workers": spec.workers, "launcher": launcher()} if spec.workers > 1 else {}
    try:
        result = train(
            seed=spec.seed,
            image_size=spec.image_size,
            max_training_seconds=spec.max_training_seconds,
            on_event=told,
            resume=told.resumed,
            batch_scale=context.batch_scale,
            early=None if early is None else versions.first,
            **several,
        )
    except Diverged:
        told.keep_best()
        if early is not None:
            early.tell_what_stays()
        raise
    for note in result.notes:
        context.log(note, pb.Log.WARNING)
    return versions.last(result)


@dataclass
class _Versions:
    """The versions of one job, as `classifier.Versions`."""

    spec: pb.FinetuneSpec
    context: JobContext
    base: Model
    made: Made
    early: Early | None

    def first(self, result: Any) -> None:
        """Publishes the new part that has learnt alone."""
        assert self.early is not None
        self.early.give(result, lambda: self._published(result, *self._judged(result, FIRST), FIRST, {}))

    def last(self, result: Any) -> JobOutput:
        """Publishes what the training came to, unless it is no better than the new part alone; and reports."""
        from ouzel.finetune.report.early import early_section

        early = self.early
        if early is None:
            present, served = self._judged(result, FIRST)
            report = self._report(result, served)
            return self._output(report, self._published(result, present, served, FIRST, {}))
        found = early.compared(self.made.improvement(early.network, result))
        metrics = lineages.metrics(result.test)
        if not found.better:
            report = self._report(result if found.same else early.network, self._before(early.network))
            drawn = result.history if result.split.validation and not found.same else ()
            return self._output(
                report, early.first, [early_section(early.outcome(found, metrics), drawn, self.made.shares)]
            )
        present, served = self._judged(result, SECOND)
        report = self._report(result, self._before(result) if present == early.first.name else served)
        more = early.improves_on(found)
        second = early.second(lambda: self._published(result, present, served, SECOND, more))
        return self._output(
            report, second, [early_section(early.outcome(found, metrics, second), (), self.made.shares)]
        )

    def _judged(self, result: Any, number: int) -> tuple[str, Any]:
        """The present default and how it compares; the new part alone only as far as its promotion needs that."""
        early = self.early
        present = promotion.present_default(self.spec, self.context, number)
        if present is None:
            return "", None
        name = f"{present.name}@{present.version}"
        if early is not None and number == SECOND and name == early.first.name:
            return name, self.made.beside_first(name, early.network, result)
        if early is not None and number == FIRST and self.spec.promote != pb.FinetuneSpec.IF_BETTER:
            return name, None
        return name, self._beside(present, result)

    def _beside(self, other: Model, result: Any) -> Any:
        return self.made.beside(other, result, lambda done, of: self.context.progress(done, of, phase="comparing"))

    def _before(self, result: Any) -> Any:
        assert self.early is not None
        other = promotion.version_of(self.early.first.before, self.context)
        return None if other is None else self._beside(other, result)

    def _report(self, result: Any, served: Any) -> Any:
        self.context.progress(0, phase="reporting")
        return self.made.report(self.base, result, served)

    def _published(self, result: Any, present: str, served: Any, number: int, more: Mapping[str, Any]) -> Published:
        spec, context = self.spec, self.context
        lineage = {**lineages.lineage(spec, context, self.base, result, number), **more}
        if context.stop_wanted():
            raise JobInterrupted
        figure = promotion.Figure(self.made.figure, self.made.value(result))
        if served is not None:
            figure = promotion.Figure(
                figure.what, figure.value, served.name, self.made.served_value(served), served.problem
            )
        named = promotion.publish(
            spec,
            context,
            self.base,
            result,
            figure,
            lineage=lineage,
            verdict=None,
            arch=result.arch,
            publication=number,
            after=self.early.first.named["version"] if self.early is not None and number == SECOND else "",
        )
        return Published(named, lineage, present)

    def _output(self, report: Any, published: Published, sections: Sequence[Section] = ()) -> JobOutput:
        written = self.made.files(report, published.name, published.lineage, sections)
        files = [File(name, media_type, content) for name, (media_type, content) in written.items()]
        named = self.early.named_now(published) if self.early is not None else published.named
        figures = {key: value for each in sections for key, value in each.figures.items()}
        return JobOutput(files, {**self._short(self.made.summary(report)), **figures, **named})

    def _short(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Without what grows with classes and epochs: lists of jobs carry their results."""
        few = len(summary["labels"]) <= _FEW
        return {
            key: value
            for key, value in summary.items()
            if key not in _LONG and (few or key not in ("labels", *self.made.growing))
        }
