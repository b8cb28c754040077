"""The report of a detector as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ouzel import pages
from ouzel.finetune.detection.detected import Detected
from ouzel.finetune.detection.looks import SENTENCE
from ouzel.finetune.detection.results import DetectionReport, ShownBoxes, kept_epoch
from ouzel.finetune.report import curves
from ouzel.finetune.report.page import lineage_rows
from ouzel.finetune.report.results import Section
from ouzel.pages import percent
from ouzel_protos import heatmap

_FEW = 30  # test images


def page(
    report: DetectionReport,
    title: str,
    lineage: Mapping[str, Any],
    links: Sequence[str] = (),
    sections: Sequence[Section] = (),
) -> str:
    """All of it; it needs nothing from elsewhere. links: files beside the page. sections: before the classes."""
    made, test = report.made, report.made.test
    height, width = made.preprocessing.input_size
    kept, chosen = kept_epoch(made), bool(made.split.validation)
    return pages.render(
        "detect.html",
        title=title,
        report=report,
        made=made,
        test=test,
        created=f"{report.created:%Y-%m-%d %H:%M} UTC",
        size=f"{width} x {height}",
        lead=lead(report),
        notes=notes(report),
        classes=list(zip(made.classes, test.objects, test.aps, test.aps50, strict=True)),
        looked=SENTENCE,
        legend=pages.photo(heatmap.colorize(np.tile(np.linspace(0, 1, 256), (12, 1)))),
        worst=[_card(one) for one in report.worst],
        chart=curves.svg(made.history, kept, curves.PRECISIONS) if chosen else "",
        chosen=chosen,
        kept=kept,
        why=why(made, kept),
        lineage=lineage_rows(lineage),
        links=links,
        sections=sections,
    )


def lead(report: DetectionReport) -> str:
    """The whole in a few sentences."""
    made, test = report.made, report.made.test
    low, high = test.interval
    count = len(made.classes)
    sentences = [
        f"Finds objects of {count} class{'es' * (count > 1)}, with an mAP of {percent(test.map)} on {test.images} "
        f"images that it had not seen (95\u00a0% interval {percent(low)} to {percent(high)}); at an overlap of .5 "
        f"alone it is {percent(test.map50)}."
    ]
    known = [(ap, label) for ap, label in zip(test.aps, made.classes, strict=True) if ap is not None]
    if len(known) > 1:
        worst, label = min(known)
        sentences.append(f"The weakest class is {label}, with {percent(worst)}.")
    served = report.served
    if served is not None and served.map is not None:
        sentences.append(f"{served.name}, served until now, has {percent(served.map)} on the same images.")
    return " ".join(sentences)


def notes(report: DetectionReport) -> list[str]:
    """What a reader should mind before believing the figures."""
    made, test = report.made, report.made.test
    sentences = list(made.notes)
    if test.images < _FEW:
        sentences.append(f"{test.images} held-out images are few: the interval says how far the mAP can be trusted.")
    absent = [label for label, count in zip(made.classes, test.objects, strict=True) if not count]
    if absent:
        sentences.append(
            f"No object on the held-out images: {', '.join(absent[:5])}. The mean is over the other classes."
        )
    if not made.split.validation:
        sentences.append("No image was kept for choosing: the last weights were taken.")
    if report.served is not None and report.served.problem:
        sentences.append(
            f"Not compared with {report.served.name}, which was served until now: {report.served.problem}."
        )
    return sentences


def why(made: Detected, kept: int | None) -> str:
    """Why the weights are what they are."""
    stages = f"{made.recipe.frozen_epochs} epochs of the new layers alone, {made.recipe.epochs} of all layers"
    if not made.split.validation:
        return f"Planned were {stages}. The last weights were taken."
    what = "all layers had learnt" if made.chosen == "all layers" else "the new layers alone had learnt"
    return (
        f"Planned were {stages}. The weights after epoch {kept} were kept, in which {what}: they had the highest mAP "
        f"on {len(made.split.validation)} validation images."
    )


def _card(one: ShownBoxes) -> dict[str, Any]:
    pictures = [("as is right", one.truth), ("as it says", one.found)]
    if one.looks is not None:
        pictures.append((f"what it looked at for {one.looked_for}", one.looks))
    drawn = [(name, pages.photo(picture)) for name, picture in pictures]
    return {"name": one.name, "rating": one.rating, "pictures": drawn}
