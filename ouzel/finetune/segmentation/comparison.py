"""A segmentation beside another model, on the images that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ouzel import models
from ouzel.finetune.data import Example
from ouzel.finetune.devices import filled, wants_one_shape
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.segmentation.data import label_map
from ouzel.finetune.segmentation.metrics import bootstrap_difference, confusions, mean_iou
from ouzel.finetune.segmentation.segmented import Segmented
from ouzel.models import Model
from ouzel.saliency.transfer import sent
from ouzel.task_names import SEGMENTATION, kind_of

_BATCH = 32


@dataclass(frozen=True)
class Beside:
    """Another model on the test images of a segmentation.

    Attributes:
        name: Of the other model, NAME@VERSION.
        miou: Of the other model, in [0, 1]; None where it tells other classes apart.
        gain: What the segmentation has more, with its 95 % interval, from the same images drawn for both.
        problem: Why they cannot be compared; "" if they can.
    """

    name: str
    miou: float | None = None
    gain: tuple[float, float, float] | None = None
    problem: str = ""


def beside(other: Model, made: Segmented, tell: Callable[[int, int], None] = lambda done, of: None) -> Beside:
    """Run another model on the test images of a segmentation, as it is served.

    It may have learnt from some of those images: the comparison favours it.

    Args:
        other: The model that is served until now.
        made: What is to follow it.
        tell: Called with the images done and how many there are.
    """
    name = f"{other.name}@{other.version}"
    if other.task != SEGMENTATION:
        return Beside(name, problem=f"it is {kind_of(other.task)}")
    if other.labels != made.labels:
        return Beside(name, problem="it tells other classes apart, or the same ones in another order")
    return beside_counts(name, _counted(other, made.split.test, tell), made)


def beside_counts(name: str, theirs: np.ndarray, made: Segmented) -> Beside:
    """The same by what another model of the same classes has said of the test images: (N, K, K) counts of pixels."""
    miou = float(mean_iou(theirs.sum(0)))
    return Beside(name, miou, (made.test.miou - miou, *bootstrap_difference(made.counts, theirs)))


@models.computing()
@torch.no_grad()
def _counted(model: Model, examples: tuple[Example, ...], tell: Callable[[int, int], None]) -> np.ndarray:
    """(N, K, K) counts of pixels."""
    classes, channels = len(model.labels), model.preprocessing.channels
    device = next(model.network.parameters()).device
    pictures = Pictures(model.preprocessing, label_map=label_map(classes))
    parts = [examples[start : start + _BATCH] for start in range(0, len(examples), _BATCH)]
    counts: list[Tensor] = []
    try:
        with closing(pictures.served(parts)) as images:
            for number, values in enumerate(images):
                tell(min(number * _BATCH, len(examples)), len(examples))
                pixels = sent(values, device)
                x = filled(pixels[:, :channels], _BATCH) if wants_one_shape(device) else pixels[:, :channels]
                logits = model.network(model.preprocessing.normalised(x))[: len(pixels)]
                counts.append(confusions(logits.argmax(1), pixels[:, -1], classes))
    finally:
        pictures.close()
    return torch.cat(counts).cpu().numpy()
