"""What a segmentation training gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from ouzel.finetune.data import Split
from ouzel.finetune.recipes import Recipe
from ouzel.finetune.segmentation.metrics import PixelScore
from ouzel.models import Preprocessing
from ouzel.precision_names import EXACT, Precision


@dataclass(frozen=True)
class Segmented:
    """What a segmentation training gives.

    Attributes:
        network: In eval mode, frozen: inputs by `preprocessing` to logits (B, K, H, W).
        labels: Of the K classes.
        preprocessing: From an image to the network's input.
        arch: Of the network, for `ouzel.models.build`.
        recipe: By which it was trained.
        seed: Of all that was drawn.
        split: The examples.
        test: Figures on images that nothing was chosen by.
        counts: (N, K, K) of the test images: pixels, row the true class, column the predicted one.
        loss: Mean over the test images.
        chosen: The stage that gave the weights, "decoder" or "all layers".
        history: A row of figures per epoch.
        seconds: That it took.
        steps: That were taken.
        planned_steps: Of the recipe.
        out_of_time: Whether `max_training_seconds` ended it.
        notes: Sentences for people about what did not go as it was asked for; none as a rule.
        precision: Of the steps of training; figures are exact.
    """

    network: nn.Module = field(repr=False)
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    arch: str
    recipe: Recipe
    seed: int
    split: Split = field(repr=False)
    test: PixelScore
    counts: np.ndarray = field(repr=False)
    loss: float
    chosen: str
    history: tuple[Mapping[str, float], ...]
    seconds: float
    steps: int = 0
    planned_steps: int = 0
    out_of_time: bool = False
    notes: tuple[str, ...] = ()
    precision: Precision = EXACT
