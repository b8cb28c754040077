"""What the training of a detector has come to, for people: figures, and the worst images with their boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ouzel.finetune.detection.comparison import Beside
from ouzel.finetune.detection.detected import Detected
from ouzel.finetune.detection.looks import SCORE, SENTENCE, Looks
from ouzel.finetune.detection.page import page
from ouzel.finetune.detection.results import DetectionReport, kept_epoch
from ouzel.finetune.detection.score import rating
from ouzel.finetune.report import curves, staged
from ouzel.finetune.report.files import assembled, images_table, write
from ouzel.finetune.report.results import Section
from ouzel.models import Model

_WORST, _FOUND = 12, 100  # images; detections of an image


def make_detection_report(base: Model, made: Detected, served: Beside | None = None) -> DetectionReport:
    """Look at what the training of a detector has come to.

    Args:
        base: Whose features were used.
        made: From `detect`.
        served: From `beside`, with the model that this one is to follow.
    """
    ratings = tuple(rating(there, found) for there, found in zip(made.there, made.found, strict=True))
    order = [int(n) for n in np.argsort(ratings, kind="stable") if ratings[n] < 1][:_WORST]
    looks = Looks(made, next(base.network.parameters()).device)
    worst = tuple(looks.shown(number, ratings[number]) for number in order)
    now = datetime.now(UTC).replace(microsecond=0)
    return DetectionReport(made, now, f"{base.name}@{base.version}", ratings, worst, served)


def detection_summary(report: DetectionReport) -> dict[str, Any]:
    """The figures, of JSON's types. labels, aps, aps50, objects: of the classes of objects, without the background."""
    made, test = report.made, report.made.test
    known = {
        **staged.figures(report),
        "task": "detection",
        "map": test.map,
        "map_low": test.interval[0],
        "map_high": test.interval[1],
        "map50": test.map50,
        "labels": list(made.classes),
        "aps": list(test.aps),
        "aps50": list(test.aps50),
        "objects": list(test.objects),
        "saliency": SENTENCE,
    }
    if report.served is not None and report.served.map is not None:
        known["served_map"] = report.served.map
    return {name: None if isinstance(each, float) and math.isnan(each) else each for name, each in known.items()}


def detection_files(
    report: DetectionReport, title: str, lineage: Mapping[str, Any], sections: Sequence[Section] = ()
) -> dict[str, tuple[str, bytes]]:
    """All that the report consists of: by name, the media type and the content. report.html links to the others."""
    made = report.made
    images = [
        {"image": example.name, "rating": value, "objects": len(there.labels), "found": _found(made, number)}
        for number, (example, value, there) in enumerate(zip(made.split.test, report.ratings, made.there, strict=True))
    ]
    return assembled(
        {**detection_summary(report), "lineage": lineage},
        images_table(images),
        {f"worst/{number:02}-found.png": one.found for number, one in enumerate(report.worst)},
        curve=curves.png(made.history, kept_epoch(made), curves.PRECISIONS) if made.split.validation else None,
        sections=sections,
        drawn=lambda links: page(report, title, lineage, links, sections),
    )


def write_detection_report(
    report: DetectionReport,
    folder: str | Path,
    *,
    title: str = "Detector",
    lineage: Mapping[str, Any] | None = None,
) -> Path:
    """Write report.html and the files that it links to.

    Args:
        report: From `make_detection_report`.
        folder: Is made where it is missing.
        title: Of the page.
        lineage: What the report says of where the model comes from, JSON's types by name.

    Returns:
        The path of report.html.
    """
    return write(detection_files(report, title, lineage or {}), folder)


def _found(made: Detected, number: int) -> list[dict[str, Any]]:
    """The detections of a test image whose score is high enough to be drawn."""
    found = made.found[number]
    assert found.scores is not None
    return [
        {"label": made.labels[label], "score": round(score, 4), "box": [round(edge, 2) for edge in box]}
        for label, score, box in zip(found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
        if score >= SCORE
    ][:_FOUND]
