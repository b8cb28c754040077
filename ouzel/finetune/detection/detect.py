"""A detector from a classifier and images with boxes: an SSDlite over the classifier's features."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ouzel.finetune.data import Example
from ouzel.finetune.detection.average_precision import Objects, average_precision
from ouzel.finetune.detection.data import split_boxed
from ouzel.finetune.detection.detected import Detected
from ouzel.finetune.detection.loss import BoxLoss, box_loss
from ouzel.finetune.detection.network import Learner, architecture, head_tensors, labels_of, learner, stretched
from ouzel.finetune.detection.score import box_score
from ouzel.finetune.detection.variation import BoxedVariation, served_views
from ouzel.finetune.devices import room
from ouzel.finetune.events import OnEvent
from ouzel.finetune.loop import Training
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.progress import Progress
from ouzel.finetune.recipes import Recipe, make_recipe
from ouzel.finetune.staged import Learning, Staged, check_stages
from ouzel.finetune.task import Task
from ouzel.finetune.variation import variation
from ouzel.models import Model, computing, detection, freeze
from ouzel.models.detection import Detections
from ouzel.precision_names import EXACT, Precision
from ouzel.task_names import DETECTION
from ouzel_protos.recipes import DETECT

NEW, FIGURE = "new layers", "map"
# Is given the detector whose new layers alone have learnt, as it would be the result, before all layers learn.
OnEarly = Callable[[Detected], None]


def detect(
    base: Model,
    data: Sequence[Example],
    classes: Sequence[str],
    recipe: Recipe | str = DETECT,
    *,
    seed: int = 0,
    image_size: int = 0,
    max_training_seconds: float = 0.0,
    on_event: OnEvent = lambda event: None,
    resume: Mapping[str, Any] | None = None,
    batch_scale: float = 1.0,
    precision: Precision = EXACT,
    early: OnEarly | None = None,
) -> Detected:
    """Learn to detect. The base stays as it is; work happens on its device.

    Args:
        base: A classifier of timm, whose features are used; or a detector that was made so and learns on, with new
            layers for the classes if they are others.
        data: The images, each with `boxes`, `box_labels` and `size`.
        classes: Names of the classes of objects, that of number 1 first.
        recipe: Or its name.
        seed: Of all that is drawn.
        image_size: Pixels along each edge of the input; 0 is the usual of the architecture, or that of the detector.
        max_training_seconds: Training ends after that with its best; 0 for no limit.
        on_event: Hears how it goes, and may raise to end it.
        resume: The state of an event of a run with the same arguments.
        batch_scale: Share of the usual images that go through the network at a time, where memory is short. The
            BatchNorms of new layers then see fewer images at a time, and the loss is divided by the objects of fewer.
        precision: Of the steps of training: "exact", "tf32" or "bf16".
        early: Is given what would be the result if only the new layers had learnt, on the features of the frozen
            backbone, before all layers learn: once in each run, in one that is resumed too, and always with the same
            weights. The time that this takes does not count. If the time limit leaves nothing for all layers, it gets
            the result.

    Raises:
        InvalidArgument: The data, parameters, image_size or precision are wrong; or `early` is asked of a training of
            the new layers alone, or of all layers from the start.
        FailedPrecondition: The base gives no features for a detector.
        Diverged: The loss is not finite any more.
    """
    recipe = make_recipe(recipe, {}) if isinstance(recipe, str) else recipe
    check_stages(recipe, NEW, precision, early=early is not None)
    begun = time.monotonic()
    base.preprocessing.check_takes_images("base")
    classes = tuple(classes)
    parts = split_boxed(data, len(classes), recipe, seed)
    base = dataclasses.replace(base, preprocessing=stretched(base, image_size))
    pictures = Pictures(base.preprocessing, room(next(base.network.parameters()).device))
    pictures.expect(parts.train)
    learning = Learning(
        NEW,
        lambda: learner(base, classes, pretrained=recipe.pretrained, seed=seed),
        head_tensors,
        lambda network: _task(network, base, parts.train, recipe),
        FIGURE,
        lambda training, network, common: _made(training, network, base, classes, common),
    )
    run = Staged(learning, base, pictures, parts, recipe, seed, begun, max_training_seconds, on_event, early, precision)
    try:
        with computing():
            return run.result(resume, batch_scale)
    finally:
        pictures.close()


def objects_of(example: Example) -> Objects:
    """What is in an image, in its pixels."""
    boxes = np.array(example.boxes, np.float64).reshape(-1, 4)
    return Objects(boxes, np.array(example.box_labels, np.int64))


def hosted(found: Detections, view: Sequence[float], size: tuple[int, int]) -> Objects:
    """What was found in an image, in its pixels.

    Args:
        found: In pixels of the input.
        view: left, top, right, bottom of what became the input, in pixels of the image.
        size: (height, width) of the input.
    """
    boxes = detection.in_image(found.boxes.double(), view, size)
    return Objects(boxes.cpu().numpy(), found.labels.cpu().numpy(), found.scores.double().cpu().numpy())


def _task(network: nn.Module, base: Model, train: Sequence[Example], recipe: Recipe) -> Task:
    assert isinstance(network, Learner)
    return Task(
        BoxedVariation(variation(recipe, base.preprocessing), train),
        BoxLoss(network),
        _measure,
        FIGURE,
        new_norms=not (recipe.pretrained and base.task == DETECTION),
    )


def _made(
    training: Training, network: nn.Module, base: Model, classes: tuple[str, ...], common: Mapping[str, Any]
) -> Detected:
    assert isinstance(network, Learner)
    test = training.split.test
    found, loss = _found(training, test, network)
    there = tuple(objects_of(each) for each in test)
    freeze(network).cpu().to(memory_format=torch.contiguous_format)
    return Detected(
        network=network.detector,
        labels=labels_of(classes),
        preprocessing=base.preprocessing,
        arch=architecture(base),
        test=box_score(there, found, len(classes)),
        found=found,
        there=there,
        loss=loss,
        **common,
    )


def _measure(training: Training, progress: Progress) -> tuple[dict[str, float], tuple[float, float]]:
    validation = training.split.validation
    if not validation:
        return {}, (float(len(progress.history) + 1), 0.0)  # the last is the best
    found, loss = _found(training, validation, training.network)
    figures = average_precision([objects_of(each) for each in validation], found)
    return {"loss": loss, FIGURE: figures.map, "map50": figures.map50}, (figures.map, -loss)


def _found(training: Training, examples: tuple[Example, ...], network: nn.Module) -> tuple[tuple[Objects, ...], float]:
    """What is found in images as they are served, and the mean loss of batches."""
    assert isinstance(network, Learner)
    found: list[Objects] = []
    losses: list[Tensor] = []
    with torch.no_grad(), closing(training.outputs(examples, network)) as outputs:
        for some, output in _beside(examples, outputs):
            views = served_views(some, network.size).to(output.device)
            losses.append(box_loss(network, output, views.targets()) * len(some))
            for one, each in zip(network.found(output), some, strict=True):
                width, height = each.size
                found.append(hosted(one, (0.0, 0.0, float(width), float(height)), network.size))
    return tuple(found), float(torch.stack(losses).sum() / len(examples))


def _beside(
    examples: tuple[Example, ...], outputs: Iterator[tuple[Tensor, Tensor]]
) -> Iterator[tuple[tuple[Example, ...], Tensor]]:
    """The examples of each batch, with the output."""
    start = 0
    for _, output in outputs:
        yield examples[start : start + len(output)], output
        start += len(output)
