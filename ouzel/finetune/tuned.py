"""What a tuning gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from ouzel.finetune.data import Split
from ouzel.finetune.metrics import Score
from ouzel.finetune.recipes import Recipe
from ouzel.models import Preprocessing
from ouzel.precision_names import EXACT, Precision


@dataclass(frozen=True)
class Tuned:
    """What a tuning gives.

    Attributes:
        network: In eval mode, frozen, for inputs by `preprocessing`, outputs in the order of `labels`.
        labels: Of the classes, sorted.
        preprocessing: From an image to the network's input.
        recipe: By which it was tuned.
        seed: Of all that was drawn.
        split: The examples.
        test: Figures on images that nothing was chosen by.
        validation: Accuracy of each candidate on the validation images, by its name.
        chosen: Which of the candidates `network` is.
        history: A row of figures per epoch.
        logits: (N, K) of the test images.
        seconds: That it took.
        steps: Of training that were taken.
        planned_steps: Of training in the recipe.
        out_of_time: Whether `max_training_seconds` ended it.
        notes: Sentences for people about what did not go as it was asked for; none as a rule.
        used: How many pictures were learnt from ("train") and chosen by ("validation"), where they were made from those
            of `split`; empty where they are those of `split`.
        precision: Of the steps of training; features and figures are exact.
    """

    network: nn.Module = field(repr=False)
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: Recipe
    seed: int
    split: Split = field(repr=False)
    test: Score
    validation: Mapping[str, float]
    chosen: str
    history: tuple[Mapping[str, float], ...]
    logits: Tensor = field(repr=False)
    seconds: float
    steps: int = 0
    planned_steps: int = 0
    out_of_time: bool = False
    notes: tuple[str, ...] = ()
    used: Mapping[str, int] = field(default_factory=dict)
    precision: Precision = EXACT
