"""Fine-tuning by the recipe "segment": the features of a model of the store learn the class of each pixel.

Artifacts: report.html, report.json, images.json (mean IoU of each test image), curves.png, worst/00-looks.png, ...
Summary: model, version, digest, promoted, served, miou, miou_low, miou_high (95 %), pixel_accuracy and the other
figures of `ouzel.finetune.segmentation.report`; notes, absent where all went well; early, as of a classifier.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ouzel.worker.kinds import masked_data
from ouzel.worker.kinds.context import JobContext, JobOutput
from ouzel.worker.kinds.staged_versions import Made, check_promotion, learnt
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Recipe
    from ouzel.models import Model


def validate(spec: pb.FinetuneSpec) -> None:
    """Refuses what the recipe cannot do. Raises InvalidArgument."""
    check_promotion(spec, "a segmentation")


def run(spec: pb.FinetuneSpec, context: JobContext, base: Model, recipe: Recipe) -> JobOutput:
    """Learns, compares with the present default of the name, publishes, and reports."""
    from ouzel.finetune.segmentation import segment

    examples, classes = masked_data.examples(spec.dataset, context)
    return learnt(spec, context, base, _made(), partial(segment, base, examples, classes, recipe))


def _made() -> Made:
    from ouzel.finetune.report.curves import OVERLAPS
    from ouzel.finetune.segmentation import report as reports
    from ouzel.finetune.segmentation.comparison import beside, beside_counts
    from ouzel.finetune.segmentation.early import improvement

    return Made(
        figure="is the mean IoU on the held-out images",
        value=lambda made: float(made.test.miou),
        improvement=improvement,
        beside=beside,
        beside_first=lambda name, first, made: beside_counts(name, first.counts, made),
        served_value=lambda served: served.miou,
        report=reports.make_segmentation_report,
        files=reports.segmentation_files,
        summary=reports.segmentation_summary,
        growing=("ious",),
        shares=OVERLAPS,
    )
