"""The report of a segmentation as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ouzel import pages
from ouzel.finetune.report import curves, staged
from ouzel.finetune.report.results import Section
from ouzel.finetune.segmentation.results import SegmentationReport, ShownMasks, kept_epoch
from ouzel.finetune.segmentation.segmented import Segmented
from ouzel.pages import percent
from ouzel_protos.label_map import colours
from ouzel_protos.label_maps import BACKGROUND, IGNORED

_TABLE = 25  # classes: a larger confusion table nobody reads
_EDGE = 256  # pixels along the longer edge of a picture, at least
_OPACITY = 0.55  # of classes over a picture


def page(
    report: SegmentationReport,
    title: str,
    lineage: Mapping[str, Any],
    links: Sequence[str] = (),
    sections: Sequence[Section] = (),
) -> str:
    """All of it; it needs nothing from elsewhere. links: files beside the page. sections: before the classes."""
    made = report.made
    kept = kept_epoch(made)
    return staged.render(
        "segment.html",
        report,
        title=title,
        lineage=lineage,
        links=links,
        sections=sections,
        kept=kept,
        shares=curves.OVERLAPS,
        lead=lead(report),
        notes=notes(report),
        classes=class_rows(made),
        confusion=_shares(made) if len(made.labels) <= _TABLE else None,
        looked=report.looked,
        worst=[_card(one, made.labels) for one in report.worst],
        why=staged.why(made, kept, "decoder", "mean IoU"),
    )


def lead(report: SegmentationReport) -> str:
    """The whole in a few sentences."""
    made, test = report.made, report.made.test
    low, high = test.interval
    sentences = [
        f"Tells {len(made.labels)} classes of pixels apart, with a mean IoU of {percent(test.miou)} on {test.images} "
        f"images that it had not seen (95\u00a0% interval {percent(low)} to {percent(high)})."
    ]
    known = [(iou, label) for iou, label in zip(test.ious, made.labels, strict=True) if iou is not None]
    if known:
        worst, label = min(known)
        sentences.append(f"The weakest class is {label}, with an IoU of {percent(worst)}.")
    served = report.served
    if served is not None and served.miou is not None:
        sentences.append(f"{served.name}, served until now, has {percent(served.miou)} on the same images.")
    return " ".join(sentences)


def notes(report: SegmentationReport) -> list[str]:
    """What a reader should mind before believing the figures."""
    made, test = report.made, report.made.test
    absent = [label for label, iou in zip(made.labels, test.ious, strict=True) if iou is None]
    return staged.notes(
        report, "mean IoU", f"No pixel on the held-out images: {', '.join(absent[:5])}." if absent else ""
    )


def class_rows(made: Segmented) -> list[dict[str, Any]]:
    """Of each class: label, colour, iou, precision, recall, share of all pixels; None where nothing is shared."""
    counts = np.array(made.test.confusion)
    total = max(1, int(counts.sum()))
    rows = []
    for k, (label, colour) in enumerate(zip(made.labels, colours().tolist(), strict=False)):
        right, given, there = int(counts[k, k]), int(counts[:, k].sum()), int(counts[k].sum())
        rows.append(
            {
                "label": label,
                "colour": "#{:02x}{:02x}{:02x}".format(*colour),
                "share": there / total,
                "iou": made.test.ious[k],
                "precision": right / given if given else None,
                "recall": right / there if there else None,
            }
        )
    return rows


def painted(picture: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(H, W, 3) uint8: classes as colours over a picture. The background stays clear; what does not count is white."""
    table = np.concatenate([colours()[: len(names)], np.full((1, 3), 255, np.uint8)])
    chosen = table[np.where(labels == IGNORED, len(names), labels)].astype(np.float32)
    clear = [k for k, name in enumerate(names) if name.casefold() == BACKGROUND]
    opacity = np.where(np.isin(labels, clear), 0.0, _OPACITY)[..., None]
    return np.rint(picture * (1 - opacity) + chosen * opacity).astype(np.uint8)


def _card(one: ShownMasks, names: Sequence[str]) -> dict[str, Any]:
    pictures = (
        ("what it sees", one.picture),
        ("as is right", painted(one.picture, one.truth, names)),
        ("as it says", painted(one.picture, one.predicted, names)),
        (f"what it looked at for {one.looked_for}", one.looks),
    )
    return {
        "name": one.name,
        "rating": one.miou,
        "pictures": [(name, pages.photo(enlarged(drawn))) for name, drawn in pictures],
    }


def _shares(made: Segmented) -> list[tuple[str, list[float]]]:
    return [
        (label, [count / max(1, sum(row)) for count in row])
        for label, row in zip(made.labels, made.test.confusion, strict=True)
    ]


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """(H, W, ...) as large as a person wants it: each pixel several times."""
    times = max(1, -(-_EDGE // max(pixels.shape[:2])))
    return np.repeat(np.repeat(pixels, times, 0), times, 1)
