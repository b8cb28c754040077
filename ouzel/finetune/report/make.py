"""From a tuning to its report: what is shown of it, and the files that it consists of."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel import models
from ouzel.finetune.data import Example
from ouzel.finetune.finetune import Tuned
from ouzel.finetune.metrics import class_scores
from ouzel.finetune.pictures import Pictures, png
from ouzel.finetune.report import curves
from ouzel.finetune.report.comparison import Comparison
from ouzel.finetune.report.maps import Maps, View
from ouzel.metrics.regions import energy_inside
from ouzel.models import Model
from ouzel.pages import percent, plain
from ouzel_protos import heatmap

_MISTAKES = 12
_COMPARED = 6
_CHANGED = 8  # images that got right, and that got wrong
_MASKED = 200  # images with a mask that are looked at
_EDGE, _SMALL = 384, 192  # pixels along the longer edge of a picture
_RUNS = ("=", "+", "-", "@", "\t")  # what a spreadsheet takes for a formula


@dataclass(frozen=True, eq=False)
class Shown:
    """One test image. scores: the likeliest labels with their probabilities, best first. picture: (H, W, 3) uint8,
    what the network sees. maps: pictures with a map drawn over them, each with its title. served: what the served model
    says.
    """

    name: str
    label: str
    scores: tuple[tuple[str, float], ...]
    picture: np.ndarray
    maps: tuple[tuple[str, np.ndarray], ...] = ()
    served: str = ""

    @property
    def predicted(self) -> str:
        return self.scores[0][0]


@dataclass(frozen=True, eq=False)
class Report:
    """created: when, in UTC. base: NAME@VERSION. view: what the maps are of. mistakes: the worst, that is those with
    the least probability for the right class, first. compared: test images of each class in turn, with maps of the base
    and of the tuned network. inside: share of the map's mass that lies on the object, "before" and "after", over the
    test images with masks; empty if there are none.

    served: the tuned network beside the version that was served until now; None if there was none. fixed, broken:
    images that only the one, only the other gets right, some of them.
    """

    tuned: Tuned
    created: datetime
    base: str
    view: View
    mistakes: tuple[Shown, ...]
    compared: tuple[Shown, ...]
    inside: Mapping[str, float]
    served: Comparison | None
    fixed: tuple[Shown, ...]
    broken: tuple[Shown, ...]


def make_report(base: Model, tuned: Tuned, served: Comparison | None = None) -> Report:
    """base: what was tuned. served: from `compare`, with the model that this one is to follow."""
    pictures = Pictures(tuned.preprocessing)
    try:
        return _Making(base, tuned, served, pictures).report()
    finally:
        pictures.close()


@dataclass
class _Making:
    base: Model
    tuned: Tuned
    served: Comparison | None
    pictures: Pictures

    def report(self) -> Report:
        tuned, served = self.tuned, self.served
        self.maps = Maps(self.base, tuned.network, tuned.preprocessing)
        self.probabilities = models.probabilities(tuned.logits)
        self.classes = torch.tensor([tuned.labels.index(each.label) for each in tuned.split.test])
        wrong = self.probabilities.argmax(1) != self.classes
        own = self.probabilities[torch.arange(len(self.classes)), self.classes]
        worst = [int(n) for n in own.argsort(stable=True) if wrong[n]][:_MISTAKES]
        rest = [n for n in _spread(self.classes) if n not in worst][:_COMPARED]
        return Report(
            tuned,
            datetime.now(UTC).replace(microsecond=0),
            f"{self.base.name}@{self.base.version}",
            self.maps.view,
            tuple(self._mistake(n) for n in worst),
            tuple(self._before_and_after(n) for n in rest),
            self._inside(),
            served,
            tuple(self._shown(n, _SMALL) for n in (served.fixed if served else ())[:_CHANGED]),
            tuple(self._shown(n, _SMALL) for n in (served.broken if served else ())[:_CHANGED]),
        )

    def _shown(self, number: int, edge: int, maps: tuple[tuple[str, np.ndarray], ...] = ()) -> Shown:
        example = self.tuned.split.test[number]
        best = self.probabilities[number].topk(min(3, len(self.tuned.labels)))
        scores = [(self.tuned.labels[k], p) for k, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
        served = self.served.predicted[number] if self.served and self.served.predicted else ""
        return Shown(example.name, example.label, tuple(scores), self.pictures.shown(example, edge), maps, served)

    def _mistake(self, number: int) -> Shown:
        example, own = self.tuned.split.test[number], int(self.classes[number])
        x, best = self._x(example), int(self.probabilities[number].argmax())
        drawn = [
            (
                f"for {self.tuned.labels[k]}, {title} ({percent(float(self.probabilities[number, k]), 0)})",
                self._over(example, self.maps.after(x, k)[1]),
            )
            for k, title in ((best, "as it says"), (own, "as is right"))
        ]
        return self._shown(number, _EDGE, tuple(drawn))

    def _before_and_after(self, number: int) -> Shown:
        example = self.tuned.split.test[number]
        drawn = []
        for title, labels, (logits, values) in (
            ("before", self.base.labels, self.maps.before(self._x(example))),
            ("after", self.tuned.labels, self.maps.after(self._x(example))),
        ):
            best = models.probabilities(logits).max(0)
            said = f"{title}: {labels[int(best.indices)]} ({percent(float(best.values), 0)})"
            drawn.append((said, self._over(example, values)))
        return self._shown(number, _EDGE, tuple(drawn))

    def _inside(self) -> Mapping[str, float]:
        found: dict[str, list[float]] = {"before": [], "after": []}
        masked = [each for each in self.tuned.split.test if each.read_mask is not None or each.boxes]
        for example in masked[:_MASKED]:
            mask = self.pictures.mask(example)
            if mask is not None and mask.any():
                x = self._x(example)
                found["before"].append(energy_inside(self.maps.before(x)[1], mask))
                found["after"].append(energy_inside(self.maps.after(x)[1], mask))
        return {name: sum(values) / len(values) for name, values in found.items() if values}

    def _x(self, example: Example) -> Tensor:
        return self.pictures.as_served([example])[0]

    def _over(self, example: Example, values: Tensor) -> np.ndarray:
        """The map over the picture, as large as that is shown."""
        picture = self.pictures.shown(example, _EDGE)
        whole = F.interpolate(values[None, None], picture.shape[:2], mode="bilinear", align_corners=False)[0, 0]
        return heatmap.blend(picture, whole.numpy())


def summary(report: Report) -> dict[str, Any]:
    """The figures, of JSON's types."""
    tuned, test, served = report.tuned, report.tuned.test, report.served
    found: dict[str, Any] = {
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
        "labels": list(tuned.labels),
        "classes": classes(tuned),
        "confusion": [list(row) for row in test.confusion],
        "history": [dict(row) for row in tuned.history],
        "seconds": tuned.seconds,
        "saliency": {"method": report.view.method, "layer": report.view.layer},
    }
    if tuned.notes:
        found["notes"] = list(tuned.notes)
    if report.inside:
        found["saliency_inside"] = dict(report.inside)
    if served is not None:
        found["served_model"] = served.name
        if served.accuracy is not None:
            found |= {"served_accuracy": served.accuracy, "fixed": len(served.fixed), "broken": len(served.broken)}
    return found


def classes(tuned: Tuned) -> list[dict[str, Any]]:
    """For each class {label, train, validation, test, predicted (how many images), precision, recall, f1}."""
    parts = {"train": tuned.split.train, "validation": tuned.split.validation}
    counts = {name: _counts(examples) for name, examples in parts.items()}
    return [
        {"label": label, **{name: counts[name].get(label, 0) for name in parts}}
        | {"test": one.images, "predicted": one.predicted}
        | {"precision": one.precision, "recall": one.recall, "f1": one.f1}
        for label, one in zip(tuned.labels, class_scores(tuned.test.confusion), strict=True)
    ]


def _counts(examples: Sequence[Example]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in examples:
        found[each.label] = found.get(each.label, 0) + 1
    return found


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
        row = [*map(_cell, texts), f"{float(best.values[number]):.6f}"]
        writer.writerow([*row, _cell(beside[number])] if beside else row)
    return out.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_RUNS) else text


def files(report: Report, title: str, lineage: Mapping[str, Any]) -> dict[str, tuple[str, bytes]]:
    """All that the report consists of: by name, the media type and the content. report.html links to the others."""
    from ouzel.finetune.report.page import page

    described = json.dumps({**summary(report), "lineage": lineage}, ensure_ascii=False)
    found = {
        "report.json": ("application/json", plain(described).encode()),
        "predictions.csv": ("text/csv; charset=utf-8", plain(predictions(report)).encode()),
    }
    kept = curves.best_epoch(report.tuned.history) if report.tuned.chosen == report.tuned.recipe.name else None
    if (curve := curves.png(report.tuned.history, kept)) is not None:
        found["curves.png"] = ("image/png", curve)
    links = tuple(found)
    for number, one in enumerate(report.mistakes):
        found[f"mistakes/{number:02}.png"] = ("image/png", png(one.maps[0][1]))
    for number, one in enumerate(report.compared):
        for name, (_, drawn) in zip(("before", "after"), one.maps, strict=True):
            found[f"compared/{number:02}-{name}.png"] = ("image/png", png(drawn))
    whole = page(report, title, lineage, links)
    return {"report.html": ("text/html; charset=utf-8", whole.encode()), **found}


def write_report(
    report: Report, folder: str | Path, *, title: str = "Fine-tuned model", lineage: Mapping[str, Any] | None = None
) -> Path:
    """Write report.html and the files that it links to into `folder`, which is made. lineage: what the report shall say
    of where the model comes from, JSON's types by name. Returns the path of report.html.
    """
    for name, (_, content) in files(report, title, lineage or {}).items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Path(folder, "report.html")


def _spread(classes: Tensor) -> list[int]:
    """Rows, one of each class in turn."""
    seen: dict[int, int] = {}
    turns = []
    for row, label in enumerate(classes.tolist()):
        turns.append((seen.get(label, 0), label, row))
        seen[label] = seen.get(label, 0) + 1
    return [row for _, _, row in sorted(turns)]
