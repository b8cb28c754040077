"""Fine-tuning by the recipe "segment": the features of a model of the store learn the class of each pixel.

Artifacts: report.html, report.json, images.json (mean IoU of each test image), curves.png, worst/00-looks.png, ...
Summary: model, version, digest, promoted, served, miou, miou_low, miou_high (95 %), pixel_accuracy and the other
figures of `ouzel.finetune.segmentation.report`; notes, absent where all went well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ouzel.errors import InvalidArgument
from ouzel.worker.kinds import lineage as lineages
from ouzel.worker.kinds import masked_data, promotion
from ouzel.worker.kinds.context import File, JobContext, JobInterrupted, JobOutput
from ouzel.worker.kinds.finetune_progress import Told
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Recipe
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
    from ouzel.finetune.segmentation import report as reports
    from ouzel.finetune.segmentation import segment
    from ouzel.finetune.segmentation.comparison import beside

    examples, classes = masked_data.examples(spec.dataset, context)
    told = Told(context)
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
        )
    except Diverged:
        told.keep_best()
        raise
    present = promotion.present_default(spec, context)
    served = None
    if present is not None:
        served = beside(present, made, lambda done, of: context.progress(done, of, phase="comparing"))
    context.progress(0, phase="reporting")
    report = reports.make_segmentation_report(base, made, served)
    for note in made.notes:
        context.log(note, pb.Log.WARNING)
    lineage = lineages.lineage(spec, context, base, made)
    if context.stop_wanted():
        raise JobInterrupted
    figure = promotion.Figure("is the mean IoU on the held-out images", made.test.miou)
    if served is not None:
        figure = promotion.Figure(figure.what, figure.value, served.name, served.miou, served.problem)
    published = promotion.publish(spec, context, base, made, figure, lineage=lineage, verdict=None, arch=made.arch)
    written = reports.segmentation_files(report, f"{published['model']}@{published['version']}", lineage)
    files = [File(name, media_type, content) for name, (media_type, content) in written.items()]
    return JobOutput(files, {**_short(reports.segmentation_summary(report)), **published})


def _short(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Without what grows with classes and epochs: lists of jobs carry their results."""
    few = len(summary["labels"]) <= _FEW
    return {key: value for key, value in summary.items() if key not in _LONG and (few or key not in _GROWING)}
