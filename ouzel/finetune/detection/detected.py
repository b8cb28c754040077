"""What a training of a detector gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ouzel.finetune.data import Split
from ouzel.finetune.detection.average_precision import Objects
from ouzel.finetune.detection.score import BoxScore
from ouzel.finetune.recipes import Recipe
from ouzel.models import Preprocessing, archive
from ouzel.models.card import Card
from ouzel.models.networks.detectors import OneStage
from ouzel.precision_names import EXACT, Precision
from ouzel.task_names import DETECTION


@dataclass(frozen=True)
class Detected:
    """What a training of a detector gives.

    Attributes:
        network: In eval mode, frozen: inputs by `preprocessing` to candidates.
        labels: Of its outputs, the background first.
        preprocessing: From an image to the network's input.
        arch: Of the network, for `ouzel.models.build`.
        recipe: By which it was trained.
        seed: Of all that was drawn.
        split: The examples.
        test: Figures on images that nothing was chosen by.
        found: What was found in each test image, in pixels of the image; `there` is what is in them.
        there: Likewise.
        loss: Mean over the test images.
        chosen: The stage that gave the weights, "new layers" or "all layers".
        history: A row of figures per epoch.
        seconds: That it took.
        steps: That were taken.
        planned_steps: Of the recipe.
        out_of_time: Whether `max_training_seconds` ended it.
        notes: Sentences for people about what did not go as it was asked for; none as a rule.
        precision: Of the steps of training; figures are exact.
    """

    network: OneStage = field(repr=False)
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    arch: str
    recipe: Recipe
    seed: int
    split: Split = field(repr=False)
    test: BoxScore
    found: tuple[Objects, ...] = field(repr=False)
    there: tuple[Objects, ...] = field(repr=False)
    loss: float
    chosen: str
    history: tuple[Mapping[str, float], ...]
    seconds: float
    steps: int = 0
    planned_steps: int = 0
    out_of_time: bool = False
    notes: tuple[str, ...] = ()
    precision: Precision = EXACT

    @property
    def classes(self) -> tuple[str, ...]:
        """Of objects, that of number 1 first."""
        return self.labels[1:]

    def archive(
        self, path: str | Path, name: str, version: str = "1", lineage: Mapping[str, Any] | None = None
    ) -> Path:
        """Write an archive of a model store. Raises as `ouzel.models.archive.write`."""
        card = Card(name, version, self.arch, self.labels, self.preprocessing, lineage=lineage or {}, task=DETECTION)
        return archive.write(card, self.network.state_dict(), path)
