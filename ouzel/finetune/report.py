"""What a tuning has come to, for people: figures, curves, mistakes, and what the network looks at, before and after."""

from __future__ import annotations

import base64
import copy
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ouzel import models
from ouzel.audit.regions import energy_inside
from ouzel.errors import OuzelError
from ouzel.finetune.data import Example
from ouzel.finetune.finetune import Tuned
from ouzel.finetune.pictures import Pictures, png
from ouzel.models import Model
from ouzel.saliency import Explainer, Saliency

Blend = Callable[[np.ndarray, np.ndarray], np.ndarray]
_MISTAKES = 12
_COMPARED = 6
_MASKED = 200  # images with a mask that are looked at
_TABLE = 60  # classes
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; } td, th { border: 1px solid #ccc; padding: .2em .6em; }
td.n { text-align: right; } figure { display: inline-block; margin: 6px; vertical-align: top; }
img { max-width: 100%; } figure img { width: 160px; } figcaption { font-size: 13px; color: #555; max-width: 160px; }
"""


@dataclass(frozen=True, eq=False)
class Shown:
    """One test image. predicted: what the tuned network says, with its probability. overlays: pictures (H, W, 3) uint8
    with a map drawn on them, by title.
    """

    name: str
    label: str
    predicted: str
    probability: float
    overlays: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Report:
    """inside: share of the map's mass that lies on the object, of the base's and the tuned network's maps, over the
    test images with masks; empty if there are none.
    """

    tuned: Tuned
    base: str
    method: str
    mistakes: tuple[Shown, ...]
    compared: tuple[Shown, ...]
    inside: Mapping[str, float]


def make_report(base: Model, tuned: Tuned, blend: Blend) -> Report:
    """base: what was tuned. blend: draws a map (H, W) over a picture (H, W, 3)."""
    pictures = Pictures(tuned.preprocessing)
    try:
        maps = _Maps(base, tuned, pictures)
        classes = torch.tensor([tuned.labels.index(each.label) for each in tuned.split.test])
        probabilities = models.probabilities(tuned.logits)
        wrong = probabilities.argmax(1) != classes
        own = probabilities[torch.arange(len(classes)), classes]
        worst = [int(n) for n in own.argsort() if wrong[n]][:_MISTAKES]
        rest = [n for n in _spread(classes) if n not in worst][:_COMPARED]

        def shown(number: int, *, before: bool) -> Shown:
            example = tuned.split.test[number]
            picture = pictures.shown(example)
            best = int(probabilities[number].argmax())
            found = {"image": picture}
            if before:
                found["before"] = blend(picture, maps.before(example).numpy())
            found["after" if before else tuned.labels[best]] = blend(picture, maps.after(example).numpy())
            return Shown(example.name, example.label, tuned.labels[best], float(probabilities[number, best]), found)

        return Report(
            tuned,
            f"{base.name}@{base.version}",
            maps.method,
            tuple(shown(number, before=False) for number in worst),
            tuple(shown(number, before=True) for number in rest),
            maps.inside(),
        )
    finally:
        pictures.close()


class _Maps:
    """Saliency of the predicted class, of the base (in its own classes) and of the tuned network."""

    def __init__(self, base: Model, tuned: Tuned, pictures: Pictures) -> None:
        device = next(base.network.parameters()).device
        self._pictures, self._tuned = pictures, tuned
        self._before, self._after = Explainer(base.network), Explainer(copy.deepcopy(tuned.network).to(device))
        self.method = "grad_cam"
        try:  # not every network has a layer to look at
            example = torch.zeros(1, *_shape(tuned)).to(device)
            self._before(example, [Saliency(self.method)])
        except OuzelError:
            self.method = "gradient"

    def before(self, example: Example) -> Tensor:
        return self._map(self._before, example)

    def after(self, example: Example) -> Tensor:
        return self._map(self._after, example)

    def inside(self) -> Mapping[str, float]:
        found: dict[str, list[float]] = {"before": [], "after": []}
        masked = [each for each in self._tuned.split.test if each.read_mask is not None or each.boxes]
        for example in masked[:_MASKED]:
            mask = self._pictures.mask(example)
            if mask is not None and mask.any():
                found["before"].append(energy_inside(self.before(example), mask))
                found["after"].append(energy_inside(self.after(example), mask))
        return {name: sum(values) / len(values) for name, values in found.items() if values}

    def _map(self, explainer: Explainer, example: Example) -> Tensor:
        x = self._pictures.as_served([example])
        return explainer(x, [Saliency(self.method)]).maps[0].values[0].float().cpu()


def summary(report: Report) -> dict[str, Any]:
    """The figures, of JSON's types."""
    tuned, test = report.tuned, report.tuned.test
    return {
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
        "confusion": [list(row) for row in test.confusion],
        "history": [dict(row) for row in tuned.history],
        "seconds": tuned.seconds,
    } | ({"saliency_inside": dict(report.inside)} if report.inside else {})


def curves(history: Sequence[Mapping[str, float]]) -> bytes | None:
    """Loss and accuracy by epoch as a PNG; None if nothing was trained by epochs."""
    if not history:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    losses, accuracies = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    losses.plot(epochs, [row["train_loss"] for row in history], "o-", label="training")
    losses.plot(epochs, [row["loss"] for row in history], "o-", label="validation")
    accuracies.plot(epochs, [row["accuracy"] for row in history], "o-", label="accuracy")
    accuracies.plot(epochs, [row["balanced_accuracy"] for row in history], "o--", label="balanced accuracy")
    for axes, title in ((losses, "loss"), (accuracies, "validation accuracy")):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.legend()
        axes.grid(alpha=0.3)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def page(report: Report, title: str, lineage: Mapping[str, Any]) -> str:
    """All of it as HTML that needs nothing from elsewhere."""
    tuned, test = report.tuned, report.tuned.test
    low, high = test.interval
    drawn = curves(tuned.history)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{100 * test.accuracy:.1f} % of {test.images} held-out images are right (95 % interval "
        f"{100 * low:.1f} to {100 * high:.1f} %); balanced accuracy {100 * test.balanced:.1f} %.</p>",
        _table([(name, f"{100 * value:.1f} %") for name, value in tuned.validation.items()], "validation accuracy"),
        f'<img alt="curves" src="{_source(drawn)}">' if drawn else "",
        "<h2>Confusion</h2>",
        _confusion(tuned.labels, test.confusion),
    ]
    if report.inside:
        rows = [(name, f"{100 * value:.1f} %") for name, value in report.inside.items()]
        parts += ["<h2>Saliency on the object</h2>", _table(rows, "share of the map's mass")]
    parts += [f"<h2>Worst mistakes</h2><p>{report.method} of the predicted class.</p>" if report.mistakes else ""]
    parts += [_figures(one) for one in report.mistakes]
    parts += [
        f"<h2>Before and after</h2><p>{report.method} of what {html.escape(report.base)} and the tuned model see.</p>"
    ]
    parts += [_figures(one) for one in report.compared]
    parts += ["<h2>Lineage</h2>", _table([(key, str(value)) for key, value in lineage.items()], "")]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>{''.join(parts)}</html>"
    )


def _confusion(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    if len(labels) > _TABLE:
        return f"<p>A table of {len(labels)} classes would be too large; report.json has it.</p>"
    head = "".join(f"<th>{html.escape(label)}</th>" for label in labels)
    rows = "".join(
        f"<tr><th>{html.escape(label)}</th>{''.join(f'<td class=n>{count}</td>' for count in row)}</tr>"
        for label, row in zip(labels, confusion, strict=True)
    )
    return f"<p>Rows: true class. Columns: predicted.</p><table><tr><th></th>{head}</tr>{rows}</table>"


def _table(rows: Sequence[tuple[str, str]], caption: str) -> str:
    cells = "".join(f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>" for key, value in rows)
    return f"<table><caption>{html.escape(caption)}</caption>{cells}</table>" if rows else ""


def _figures(one: Shown) -> str:
    caption = f"{one.name}: {one.label}, predicted {one.predicted} ({100 * one.probability:.0f} %)"
    images = "".join(
        f'<figure><img alt="{html.escape(title)}" src="{_source(png(picture))}"><figcaption>{html.escape(title)}'
        "</figcaption></figure>"
        for title, picture in one.overlays.items()
    )
    return f"<div><div>{html.escape(caption)}</div>{images}</div>"


def _source(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _spread(classes: Tensor) -> list[int]:
    """Rows, one of each class in turn."""
    turns = [(int((classes[:row] == classes[row]).sum()), int(classes[row]), row) for row in range(len(classes))]
    return [row for _, _, row in sorted(turns)]


def _shape(tuned: Tuned) -> tuple[int, int, int]:
    return (tuned.preprocessing.channels, *tuned.preprocessing.input_size)
