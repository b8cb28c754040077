"""From a tuning to what is shown of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ouzel import models
from ouzel.finetune.data import Example
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.report.comparison import Comparison
from ouzel.finetune.report.maps import Maps
from ouzel.finetune.report.results import Report, Shown
from ouzel.finetune.tuned import Tuned
from ouzel.metrics.regions import energy_inside
from ouzel.models import Model
from ouzel.pages import percent
from ouzel_protos import heatmap

_MISTAKES = 12
_COMPARED = 6
_CHANGED = 8  # images that got right, and that got wrong
_MASKED = 200  # images with a mask that are looked at
_EDGE, _SMALL = 384, 192  # pixels along the longer edge of a picture


def make_report(base: Model, tuned: Tuned, served: Comparison | None = None) -> Report:
    """Look at what a tuning has come to.

    Args:
        base: What was tuned.
        tuned: From `finetune`.
        served: From `compare`, with the model that this one is to follow.
    """
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
        shares: dict[str, list[float]] = {"before": [], "after": []}
        masked = [each for each in self.tuned.split.test if each.read_mask is not None or each.boxes]
        for example in masked[:_MASKED]:
            mask = self.pictures.mask(example)
            if mask is not None and mask.any():
                x = self._x(example)
                shares["before"].append(energy_inside(self.maps.before(x)[1], mask))
                shares["after"].append(energy_inside(self.maps.after(x)[1], mask))
        return {name: sum(values) / len(values) for name, values in shares.items() if values}

    def _x(self, example: Example) -> Tensor:
        return self.pictures.as_served([example])[0]

    def _over(self, example: Example, values: Tensor) -> np.ndarray:
        """The map over the picture, as large as that is shown."""
        picture = self.pictures.shown(example, _EDGE)
        whole = F.interpolate(values[None, None], picture.shape[:2], mode="bilinear", align_corners=False)[0, 0]
        return heatmap.blend(picture, whole.numpy())


def _spread(classes: Tensor) -> list[int]:
    """Rows, one of each class in turn."""
    seen: dict[int, int] = {}
    turns = []
    for row, label in enumerate(classes.tolist()):
        turns.append((seen.get(label, 0), label, row))
        seen[label] = seen.get(label, 0) + 1
    return [row for _, _, row in sorted(turns)]
