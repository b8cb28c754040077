"""Fine-tuning by the recipe "detect": the features of a model of the store learn boxes of objects.

Artifacts: report.html, report.json, images.json (figures of each test image), curves.png, worst/00-found.png, ...
Summary: model, version, digest, promoted, served, map, map_low, map_high (95 %), map50 and the other figures of
`ouzel.finetune.detection.report`; notes, absent where all went well; early, as of a classifier.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ouzel.worker.kinds import boxed_data
from ouzel.worker.kinds.context import JobContext, JobOutput
from ouzel.worker.kinds.staged_versions import Made, check_promotion, learnt
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Recipe
    from ouzel.models import Model


def validate(spec: pb.FinetuneSpec) -> None:
    """Refuses what the recipe cannot do. Raises InvalidArgument."""
    check_promotion(spec, "a detector")


def run(spec: pb.FinetuneSpec, context: JobContext, base: Model, recipe: Recipe) -> JobOutput:
    """Learns, compares with the present default of the name, publishes, and reports."""
    from ouzel.finetune.detection import detect

    examples, classes = boxed_data.examples(spec.dataset, context)
    return learnt(spec, context, base, _made(), partial(detect, base, examples, classes, recipe))


def _made() -> Made:
    from ouzel.finetune.detection import report as reports
    from ouzel.finetune.detection.comparison import beside, beside_found
    from ouzel.finetune.detection.early import improvement
    from ouzel.finetune.report.curves import PRECISIONS

    return Made(
        figure="is the mAP on the held-out images",
        value=lambda made: float(made.test.map),
        improvement=improvement,
        beside=beside,
        beside_first=lambda name, first, made: beside_found(name, first.found, made),
        served_value=lambda served: served.map,
        report=reports.make_detection_report,
        files=reports.detection_files,
        summary=reports.detection_summary,
        growing=("aps", "aps50", "objects"),
        shares=PRECISIONS,
    )
