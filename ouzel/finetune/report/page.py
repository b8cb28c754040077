"""The report of a tuning as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ouzel import pages
from ouzel.finetune.metrics import most_confused
from ouzel.finetune.report import curves
from ouzel.finetune.report.comparison import Comparison
from ouzel.finetune.report.figures import classes
from ouzel.finetune.report.results import Report, Section, Shown
from ouzel.finetune.tuned import Tuned
from ouzel.pages import percent
from ouzel_protos import heatmap

_TABLE = 25  # classes: a larger confusion table nobody reads
_CLASSES = 40  # rows of the table of classes that are open from the start
_PAIRS = 25
_FEW, _FEW_OF_CLASS = 100, 10  # test images
_UNEVEN = 10  # times as many training images in one class as in another
_NAMES = {
    "created": "Made at",
    "base": "Base model",
    "base_version": "Version of the base",
    "base_digest": "Digest of the base's weights",
    "dataset": "Data set (digest of its manifest)",
    "parameters": "Parameter",
    "precision": "What the training computed in",
    "image_size": "Size of the input that was asked for",
    "input_size": "Size of the input, height and width",
    "max_training_seconds": "Longest training, seconds",
    "batch_scale": "Share of the usual images at a time",
    "promote": "To become the default",
    "metrics": "Figure",
    "libraries": "Library",
}
_NO_MATTER = {
    "image_size": "that of the base",
    "max_training_seconds": "no limit",
}  # where 0


def page(
    report: Report,
    title: str,
    lineage: Mapping[str, Any],
    links: Sequence[str] = (),
    sections: Sequence[Section] = (),
) -> str:
    """All of it; it needs nothing from elsewhere. links: files beside the page. sections: before the classes."""
    tuned, view = report.tuned, report.view
    figures = classes(tuned)
    shown = {key for section in sections for key in section.figures}  # in a section of their own
    height, width = tuned.preprocessing.input_size
    kept = curves.best_epoch(tuned.history) if tuned.chosen == tuned.recipe.name else None
    chart = curves.svg(tuned.history, kept)
    weakest = sorted(figures, key=lambda one: (one["f1"] is None, one["f1"] or 0.0, one["label"]))
    return pages.render(
        "finetune.html",
        title=title,
        report=report,
        tuned=tuned,
        test=tuned.test,
        created=f"{report.created:%Y-%m-%d %H:%M} UTC",
        size=f"{width} x {height}",
        lead=lead(report, figures),
        notes=notes(report, figures),
        differences=differences(report.served) if report.served and not report.served.problem else "",
        classes=figures if len(figures) <= _CLASSES else weakest[:_CLASSES],
        all_classes=figures if len(figures) > _CLASSES else [],
        confusion=_confusion(tuned) if len(tuned.labels) <= _TABLE else None,
        pairs=[
            (tuned.labels[one.true], tuned.labels[one.predicted], one.count, one.share)
            for one in most_confused(tuned.test.confusion, _PAIRS)
        ],
        method=f"{view.method} of the layer {view.layer}" if view.layer else view.method,
        legend=pages.photo(heatmap.colorize(np.tile(np.linspace(0, 1, 256), (12, 1)))),
        mistakes=[_card(one) for one in report.mistakes],
        compared=[_card(one) for one in report.compared],
        fixed=[_card(one) for one in report.fixed],
        broken=[_card(one) for one in report.broken],
        chart=chart,
        kept=kept,
        why=why(tuned, kept),
        lineage=lineage_rows({key: value for key, value in lineage.items() if key not in shown}),
        links=links,
        sections=sections,
        chosen_by=chosen_by(tuned),
    )


def lineage_rows(lineage: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where a model comes from, as the rows of a table."""
    return pages.rows({key: value or _NO_MATTER.get(key, value) for key, value in lineage.items()}, _NAMES)


def lead(report: Report, figures: Sequence[Mapping[str, Any]]) -> str:
    """The whole in a few sentences."""
    tuned, test = report.tuned, report.tuned.test
    right = sum(test.confusion[k][k] for k in range(len(tuned.labels)))
    low, high = test.interval
    sentences = [
        f"Tells {len(tuned.labels)} classes apart, and is right on {right} of {test.images} images that it had not "
        f"seen: {percent(test.accuracy)} (95\u00a0% interval {percent(low)} to {percent(high)})."
    ]
    seen = [one for one in figures if one["recall"] is not None]
    worst = min(seen, key=lambda one: (one["recall"], one["label"]))
    if worst["recall"] < 1:
        row = test.confusion[tuned.labels.index(worst["label"])]
        count, other = max((n, k) for k, n in enumerate(row) if tuned.labels[k] != worst["label"])
        sentences.append(
            f"The weakest class is {worst['label']}: {percent(worst['recall'], 0)} of its images are found; "
            f"most often they are taken for {tuned.labels[other]} ({count} of {worst['test']})."
        )
    served = report.served
    if served is not None and served.accuracy is not None:
        sentences.append(
            f"{served.name}, served until now, is right on {percent(served.accuracy)} of the same images. "
            f"{differences(served)}"
        )
    return " ".join(sentences)


def differences(served: Comparison) -> str:
    """What changed, image by image."""
    if not served.fixed and not served.broken:
        return "The two are right on the very same images."
    return f"Wrong then and right now: {len(served.fixed)}. Right then and wrong now: {len(served.broken)}."


def notes(report: Report, figures: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader should mind before believing the figures."""
    test, sentences = report.tuned.test, list(report.tuned.notes)
    if test.images < _FEW:
        sentences.append(
            f"{test.images} held-out images are few: the interval says how far the accuracy can be trusted."
        )
    few = [one["label"] for one in figures if one["test"] < _FEW_OF_CLASS]
    if few:
        which = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        sentences.append(f"Fewer than {_FEW_OF_CLASS} held-out images: {which}. Figures of these classes are rough.")
    most = max(figures, key=lambda one: one["train"])
    least = min(figures, key=lambda one: one["train"])
    if most["train"] >= _UNEVEN * least["train"]:
        sentences.append(
            f"Classes are uneven: {most['train']} training images of {most['label']}, {least['train']} of "
            f"{least['label']}. Read the balanced accuracy."
        )
    if not report.mistakes:
        sentences.append(
            "No mistake at all: see whether the held-out images are like those that the model will meet, and not "
            "nearly the same as the training images."
        )
    served = report.served
    if served is not None and served.problem:
        sentences.append(f"Not compared with {served.name}, which was served until now: {served.problem}.")
    if report.view.note:
        sentences.append(f"Maps: {report.view.note}")
    return sentences


def chosen_by(tuned: Tuned) -> int:
    """How many images the candidates were chosen by."""
    return tuned.used.get("validation", len(tuned.split.validation))


def why(tuned: Tuned, kept: int | None) -> str:
    """Why the network is what it is."""
    shares, recipe = tuned.validation, tuned.recipe
    count = chosen_by(tuned)
    epoch = f"the weights after epoch {kept}" if kept is not None else ""
    if len(shares) == 1:
        text = f"There was one candidate: {tuned.chosen}."
        return f"{text} Of its epochs, {epoch} were best on the validation images." if epoch else text
    if tuned.chosen == recipe.name:
        other = next(name for name in shares if name != tuned.chosen)
        better = shares[tuned.chosen] > shares[other]
        reason = "more of them are right" if better else "as many are right, with less loss"
        return f"{tuned.chosen} was chosen on {count} validation images: with {epoch}, {reason} than with {other}."
    tie = shares[tuned.chosen] == max(shares.values()) and len(set(shares.values())) == 1
    reason = (
        "no epoch of training all layers had less loss with as many right"
        if tie
        else "training all layers did not get better"
    )
    return (
        f"{tuned.chosen} was chosen on {count} validation images: {reason}. It was then fitted anew with the "
        "validation images too."
    )


def _confusion(tuned: Tuned) -> list[tuple[str, list[tuple[int, float]]]]:
    """For each true class, the counts with their shares of the row."""
    return [
        (label, [(count, count / max(1, sum(row))) for count in row])
        for label, row in zip(tuned.labels, tuned.test.confusion, strict=True)
    ]


def _card(one: Shown) -> dict[str, Any]:
    return {
        "name": one.name,
        "label": one.label,
        "predicted": one.predicted,
        "scores": ", ".join(f"{label} {percent(share, 0)}" for label, share in one.scores),
        "served": one.served,
        "picture": pages.photo(one.picture),
        "maps": [(title, pages.photo(drawn)) for title, drawn in one.maps],
    }
