"""A network that tells the class of each pixel, from a classifier and images with label maps."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ouzel.finetune import network as networks
from ouzel.finetune.data import Example, split_annotated
from ouzel.finetune.devices import room
from ouzel.finetune.distributed.lead import Launcher, check_workers, leading
from ouzel.finetune.distributed.processes import local
from ouzel.finetune.events import OnEvent
from ouzel.finetune.loop import Training
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.progress import Progress
from ouzel.finetune.recipes import Recipe, make_recipe
from ouzel.finetune.segmentation.data import label_map
from ouzel.finetune.segmentation.loss import PixelLoss
from ouzel.finetune.segmentation.metrics import confusions, mean_iou, pixel_score
from ouzel.finetune.segmentation.network import architecture, head_tensors, segmenter, whole_side
from ouzel.finetune.segmentation.segmented import Segmented
from ouzel.finetune.segmentation.variation import MaskedVariation
from ouzel.finetune.staged import Learning, Staged, check_stages
from ouzel.finetune.task import Task
from ouzel.finetune.variation import variation
from ouzel.models import Model, computing, freeze
from ouzel.precision_names import EXACT, Precision
from ouzel.task_names import SEGMENTATION
from ouzel_protos.recipes import SEGMENT

_NEW, _FIGURE = "decoder", "miou"
# Is given the network whose decoder alone has learnt, as it would be the result, before all layers learn.
OnEarly = Callable[[Segmented], None]


def segment(
    base: Model,
    data: Sequence[Example],
    classes: Sequence[str],
    recipe: Recipe | str = SEGMENT,
    *,
    seed: int = 0,
    image_size: int = 0,
    max_training_seconds: float = 0.0,
    on_event: OnEvent = lambda event: None,
    resume: Mapping[str, Any] | None = None,
    batch_scale: float = 1.0,
    precision: Precision = EXACT,
    early: OnEarly | None = None,
    workers: int = 1,
    launcher: Launcher = local,
) -> Segmented:
    """Learn the class of each pixel. The base stays as it is; work happens on its device.

    Args:
        base: A classifier, whose features are used; or a segmentation model that learns on, with a new last layer if
            its classes are others.
        data: The images, each with `read_label_map`.
        classes: Their names, by their number in the label maps.
        recipe: Or its name.
        seed: Of all that is drawn.
        image_size: Pixels along each edge of the input; 0 as the base has it.
        max_training_seconds: Training ends after that with its best; 0 for no limit.
        on_event: Hears how it goes, and may raise to end it.
        resume: The state of an event of a run with the same arguments.
        batch_scale: Share of the usual images that go through the network at a time, where memory is short. The
            BatchNorms of a new decoder then see fewer images at a time.
        precision: Of the steps of training: "exact", "tf32" or "bf16".
        early: Is given what would be the result if only the decoder had learnt, on the features of the frozen backbone,
            before all layers learn: once in each run, in one that is resumed too, and always with the same weights. The
            time that this takes does not count. If the time limit leaves nothing for all layers, it gets the result.
        workers: As of `ouzel.finetune.finetune`, like launcher.
        launcher: See workers.

    Raises:
        InvalidArgument: The data, parameters, image_size or precision are wrong; or `early` is asked of a training of
            the decoder alone, or of all layers from the start.
        FailedPrecondition: The base gives no features to decode.
        Diverged: The loss is not finite any more.
    """
    recipe = make_recipe(recipe, {}) if isinstance(recipe, str) else recipe
    check_stages(recipe, _NEW, precision, early=early is not None)
    check_workers(recipe, workers)
    begun = time.monotonic()
    base.preprocessing.check_takes_images("base")
    classes = tuple(classes)
    parts = split_annotated(data, recipe, seed)
    base = dataclasses.replace(base, preprocessing=whole_side(networks.resized(base.preprocessing, image_size)))
    pictures = Pictures(base.preprocessing, room(device_of(base)), label_map(len(classes)))
    pictures.expect(parts.train)
    learning = Learning(
        _NEW,
        lambda: segmenter(base, classes, pretrained=recipe.pretrained, seed=seed),
        head_tensors,
        lambda network: _task(base, len(classes), recipe),
        _FIGURE,
        lambda training, network, common: _made(training, network, base, classes, common),
    )
    run = Staged(learning, base, pictures, parts, recipe, seed, begun, max_training_seconds, on_event, early, precision)
    try:
        with computing(), leading(launcher, workers, on_event) as run.lead:
            return run.result(resume, batch_scale)
    finally:
        pictures.close()


def _task(base: Model, classes: int, recipe: Recipe) -> Task:
    return Task(
        MaskedVariation(variation(recipe, base.preprocessing)),
        PixelLoss(recipe.dice),
        _measured(classes, recipe.dice),
        _FIGURE,
        new_norms=not (recipe.pretrained and base.task == SEGMENTATION),
    )


def _made(
    training: Training, network: nn.Module, base: Model, classes: tuple[str, ...], common: Mapping[str, Any]
) -> Segmented:
    each, loss = counted(training, training.split.test, len(classes), training.recipe.dice, network)
    return Segmented(
        network=freeze(network).cpu().to(memory_format=torch.contiguous_format),
        labels=classes,
        preprocessing=base.preprocessing,
        arch=architecture(base),
        test=pixel_score(each),
        counts=each,
        loss=loss,
        **common,
    )


def counted(
    training: Training, examples: tuple[Example, ...], classes: int, dice: float, network: nn.Module | None = None
) -> tuple[np.ndarray, float]:
    """(N, K, K) counts of the pixels of each image as it is served, and the mean loss; of that network, or another."""
    loss = PixelLoss(dice)
    counts: list[Tensor] = []
    losses: list[Tensor] = []
    with torch.no_grad(), closing(training.outputs(examples, network)) as outputs:
        for pixels, logits in outputs:
            counts.append(confusions(logits.argmax(1), pixels[:, -1], classes))
            losses.append(loss(logits, pixels))
    return torch.cat(counts).cpu().numpy(), float(torch.cat(losses).mean())


def device_of(base: Model) -> torch.device:
    """Where a model is."""
    return next(base.network.parameters()).device


def _measured(classes: int, dice: float) -> Any:
    def measure(training: Training, progress: Progress) -> tuple[dict[str, float], tuple[float, float]]:
        if not training.split.validation:
            return {}, (float(len(progress.history) + 1), 0.0)  # the last is the best
        each, loss = counted(training, training.split.validation, classes, dice)
        whole = each.sum(0)
        value = float(mean_iou(whole))
        right = float(np.trace(whole) / max(1, whole.sum()))
        return {"loss": loss, _FIGURE: value, "pixel_accuracy": right}, (value, -loss)

    return measure
