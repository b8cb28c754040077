"""The figures of a report, for programs: a JSON summary and a CSV of all predictions."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import Any

from ouzel import models
from ouzel.finetune.metrics import class_scores
from ouzel.finetune.report.results import Report
from ouzel.finetune.tuned import Tuned
from ouzel.pages.texts import cell


def summary(report: Report) -> dict[str, Any]:
    """The figures, of JSON's types."""
    tuned, test, served = report.tuned, report.tuned.test, report.served
    figures: dict[str, Any] = {
        "created": report.created.isoformat(),
        "base": report.base,
        "accuracy": test.accuracy,
        "accuracy_low": test.interval[0],
        "accuracy_high": test.interval[1],
        "balanced_accuracy": test.balanced,
        "loss": test.loss,
        "test_images": test.images,
        "train_images": len(tuned.split.train),
        "validation_images": len(tuned.split.validation),
        "validation": dict(tuned.validation),
        "chosen": tuned.chosen,
        "recipe": tuned.recipe.name,
        "precision": tuned.precision,
        "labels": list(tuned.labels),
        "classes": classes(tuned),
        "confusion": [list(row) for row in test.confusion],
        "history": [dict(row) for row in tuned.history],
        "seconds": tuned.seconds,
        "saliency": {"method": report.view.method, "layer": report.view.layer},
    }
    if tuned.notes:
        figures["notes"] = list(tuned.notes)
    if report.inside:
        figures["saliency_inside"] = dict(report.inside)
    if served is not None:
        figures["served_model"] = served.name
        if served.accuracy is not None:
            figures |= {"served_accuracy": served.accuracy, "fixed": len(served.fixed), "broken": len(served.broken)}
    return figures


def classes(tuned: Tuned) -> list[dict[str, Any]]:
    """For each class {label, train, validation, test, predicted (how many images), precision, recall, f1}."""
    parts = {"train": tuned.split.train, "validation": tuned.split.validation}
    counts = {name: Counter(each.label for each in examples) for name, examples in parts.items()}
    return [
        {"label": label, **{name: counts[name][label] for name in parts}}
        | {"test": one.images, "predicted": one.predicted}
        | {"precision": one.precision, "recall": one.recall, "f1": one.f1}
        for label, one in zip(tuned.labels, class_scores(tuned.test.confusion), strict=True)
    ]


def predictions(report: Report) -> str:
    """A CSV with a line per test image. A cell that a spreadsheet would run as a formula begins with an apostrophe."""
    tuned, served = report.tuned, report.served
    beside = served.predicted if served is not None and served.predicted else None
    best = models.probabilities(tuned.logits).max(1)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", "label", "predicted", "probability", *(["served_predicted"] if beside else [])])
    for number, example in enumerate(tuned.split.test):
        texts = [example.name, example.label, tuned.labels[int(best.indices[number])]]
        row = [*map(cell, texts), f"{float(best.values[number]):.6f}"]
        writer.writerow([*row, cell(beside[number])] if beside else row)
    return out.getvalue()
