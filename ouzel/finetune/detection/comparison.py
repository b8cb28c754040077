"""A detector beside another model, on the images that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch

from ouzel import models
from ouzel.finetune.data import Example
from ouzel.finetune.detection.average_precision import Objects, average_precision, matches
from ouzel.finetune.detection.detect import hosted
from ouzel.finetune.detection.detected import Detected
from ouzel.finetune.detection.score import bootstrap_difference
from ouzel.finetune.devices import filled, wants_one_shape
from ouzel.finetune.pictures import Pictures
from ouzel.models import Model, detection
from ouzel.models.networks.detectors import Detector
from ouzel.saliency.transfer import sent
from ouzel.task_names import DETECTION, kind_of

_BATCH = 16


@dataclass(frozen=True)
class Beside:
    """Another model on the test images of a detector.

    Attributes:
        name: Of the other model, NAME@VERSION.
        map: Of the other model, in [0, 1]; None where it tells other classes apart.
        gain: What the detector has more, with its 95 % interval, from the same images drawn for both.
        problem: Why they cannot be compared; "" if they can.
    """

    name: str
    map: float | None = None
    gain: tuple[float, float, float] | None = None
    problem: str = ""


def beside(other: Model, made: Detected, tell: Callable[[int, int], None] = lambda done, of: None) -> Beside:
    """Run another model on the test images of a detector, as it is served.

    It may have learnt from some of those images: the comparison favours it.

    Args:
        other: The model that is served until now.
        made: What is to follow it.
        tell: Called with the images done and how many there are.
    """
    name = f"{other.name}@{other.version}"
    if other.task != DETECTION:
        return Beside(name, problem=f"it is {kind_of(other.task)}")
    if other.labels != made.labels:
        return Beside(name, problem="it tells other classes apart, or the same ones in another order")
    return beside_found(name, found_by(other, made.split.test, tell), made)


def beside_found(name: str, theirs: Sequence[Objects], made: Detected) -> Beside:
    """The same by what another model of the same classes has found in the test images."""
    figure = average_precision(made.there, theirs).map
    known, other = matches(made.there, made.found), matches(made.there, theirs)
    interval = bootstrap_difference(known, other, made.test.images)
    return Beside(name, figure, (made.test.map - figure, *interval))


@models.computing()
@torch.no_grad()
def found_by(
    model: Model, examples: tuple[Example, ...], tell: Callable[[int, int], None] = lambda done, of: None
) -> list[Objects]:
    """What a detector finds in each image, in its pixels."""
    network, size = model.network, model.preprocessing.input_size
    assert isinstance(network, Detector)
    device = next(network.parameters()).device
    pictures = Pictures(model.preprocessing)
    parts = [examples[start : start + _BATCH] for start in range(0, len(examples), _BATCH)]
    found: list[Objects] = []
    try:
        with closing(pictures.served(parts)) as images:
            for part, values in zip(parts, images, strict=True):
                tell(len(found), len(examples))
                x = sent(values, device)
                if wants_one_shape(device):
                    x = filled(x, _BATCH)
                answer = network(model.preprocessing.normalised(x))[: len(part)]
                chosen = detection.select(detection.candidates(answer, network, size), network.rules)
                views = [model.preprocessing.view(*each.size) for each in part]
                found += [hosted(one, view, size) for one, view in zip(chosen, views, strict=True)]
    finally:
        pictures.close()
    return found
