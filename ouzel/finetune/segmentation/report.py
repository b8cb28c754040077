"""What a segmentation has come to, for people: figures, and the worst images with what the network looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ouzel.finetune.pictures import Pictures
from ouzel.finetune.report import curves, staged
from ouzel.finetune.report.files import assembled, images_table, write
from ouzel.finetune.report.results import Section
from ouzel.finetune.segmentation.comparison import Beside
from ouzel.finetune.segmentation.data import label_map
from ouzel.finetune.segmentation.looks import Looks
from ouzel.finetune.segmentation.metrics import mean_iou
from ouzel.finetune.segmentation.page import page
from ouzel.finetune.segmentation.results import SegmentationReport, ShownMasks, kept_epoch
from ouzel.finetune.segmentation.segmented import Segmented
from ouzel.models import Model
from ouzel_protos.label_maps import IGNORED

_WORST = 12


def make_segmentation_report(base: Model, made: Segmented, served: Beside | None = None) -> SegmentationReport:
    """Look at what a segmentation has come to.

    Args:
        base: Whose features were used.
        made: From `segment`.
        served: From `beside`, with the model that this one is to follow.
    """
    pictures = Pictures(made.preprocessing, label_map=label_map(len(made.labels)))
    try:
        looks = Looks(made, next(base.network.parameters()).device)
        each = mean_iou(made.counts)
        order = [int(n) for n in np.argsort(each, kind="stable") if each[n] < 1][:_WORST]
        worst = tuple(_shown(made, pictures, looks, number, float(each[number])) for number in order)
        now = datetime.now(UTC).replace(microsecond=0)
        return SegmentationReport(made, now, f"{base.name}@{base.version}", looks.sentence, worst, served)
    finally:
        pictures.close()


def _shown(made: Segmented, pictures: Pictures, looks: Looks, number: int, miou: float) -> ShownMasks:
    example = made.split.test[number]
    (pixels,) = pictures.served([[example]])
    image, truth = pixels[0, :-1], pixels[0, -1].numpy()
    x = made.preprocessing.normalised(image[None])
    predicted = looks.predicted(x)
    wrong = np.bincount(predicted[(predicted != truth) & (truth != IGNORED)], minlength=len(made.labels))
    label = int(wrong.argmax()) if wrong.any() else int(np.bincount(predicted.flatten()).argmax())
    picture = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
    drawn = looks.over(x, label, picture)
    return ShownMasks(example.name, miou, picture, truth, predicted, drawn, made.labels[label])


def segmentation_summary(report: SegmentationReport) -> dict[str, Any]:
    """The figures, of JSON's types."""
    made, test = report.made, report.made.test
    known = {
        **staged.figures(report),
        "task": "segmentation",
        "miou": test.miou,
        "miou_low": test.interval[0],
        "miou_high": test.interval[1],
        "pixel_accuracy": test.pixel_accuracy,
        "labels": list(made.labels),
        "ious": list(test.ious),
        "confusion": [list(row) for row in test.confusion],
        "saliency": report.looked,
    }
    if report.served is not None and report.served.miou is not None:
        known["served_miou"] = report.served.miou
    return known


def segmentation_files(
    report: SegmentationReport, title: str, lineage: Mapping[str, Any], sections: Sequence[Section] = ()
) -> dict[str, tuple[str, bytes]]:
    """All that the report consists of: by name, the media type and the content. report.html links to the others."""
    made = report.made
    images = [
        {"image": each.name, "miou": None if math.isnan(miou) else miou}
        for each, miou in zip(made.split.test, mean_iou(made.counts).tolist(), strict=True)
    ]
    return assembled(
        {**segmentation_summary(report), "lineage": lineage},
        images_table(images),
        {f"worst/{number:02}-looks.png": one.looks for number, one in enumerate(report.worst)},
        curve=curves.png(made.history, kept_epoch(made), curves.OVERLAPS) if made.split.validation else None,
        sections=sections,
        drawn=lambda links: page(report, title, lineage, links, sections),
    )


def write_segmentation_report(
    report: SegmentationReport,
    folder: str | Path,
    *,
    title: str = "Segmentation model",
    lineage: Mapping[str, Any] | None = None,
) -> Path:
    """Write report.html and the files that it links to.

    Args:
        report: From `make_segmentation_report`.
        folder: Is made where it is missing.
        title: Of the page.
        lineage: What the report says of where the model comes from, JSON's types by name.

    Returns:
        The path of report.html.
    """
    return write(segmentation_files(report, title, lineage or {}), folder)
