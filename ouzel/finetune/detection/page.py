"""The report of a detector as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ouzel import pages
from ouzel.finetune.detection.looks import SENTENCE
from ouzel.finetune.detection.results import DetectionReport, ShownBoxes, kept_epoch
from ouzel.finetune.report import curves, staged
from ouzel.finetune.report.results import Section
from ouzel.pages import percent


def page(
    report: DetectionReport,
    title: str,
    lineage: Mapping[str, Any],
    links: Sequence[str] = (),
    sections: Sequence[Section] = (),
) -> str:
    """All of it; it needs nothing from elsewhere. links: files beside the page. sections: before the classes."""
    made, test = report.made, report.made.test
    kept = kept_epoch(made)
    return staged.render(
        "detect.html",
        report,
        title=title,
        lineage=lineage,
        links=links,
        sections=sections,
        kept=kept,
        shares=curves.PRECISIONS,
        lead=lead(report),
        notes=notes(report),
        classes=list(zip(made.classes, test.objects, test.aps, test.aps50, strict=True)),
        looked=SENTENCE,
        worst=[_card(one) for one in report.worst],
        why=staged.why(made, kept, "new layers", "mAP"),
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
    absent = [label for label, count in zip(made.classes, test.objects, strict=True) if not count]
    return staged.notes(report, "mAP", f"No object on the held-out images: {', '.join(absent[:5])}." if absent else "")


def _card(one: ShownBoxes) -> dict[str, Any]:
    pictures = [("as is right", one.truth), ("as it says", one.found)]
    if one.looks is not None:
        pictures.append((f"what it looked at for {one.looked_for}", one.looks))
    drawn = [(name, pages.photo(picture)) for name, picture in pictures]
    return {"name": one.name, "rating": one.rating, "pictures": drawn}
