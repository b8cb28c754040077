"""A network that tells the class of each pixel, from a classifier and images with label maps."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ouzel.errors import InvalidArgument
from ouzel.finetune import network as networks
from ouzel.finetune.data import Example
from ouzel.finetune.devices import room
from ouzel.finetune.events import Event, OnEvent
from ouzel.finetune.loop import Task, Training
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.progress import Progress, progress_from
from ouzel.finetune.recipes import Recipe, make_recipe
from ouzel.finetune.segmentation.data import label_map, split_masked
from ouzel.finetune.segmentation.loss import PixelLoss
from ouzel.finetune.segmentation.metrics import confusions, mean_iou, pixel_score
from ouzel.finetune.segmentation.network import architecture, head_tensors, segmenter, whole_side
from ouzel.finetune.segmentation.segmented import Segmented
from ouzel.finetune.segmentation.variation import MaskedVariation
from ouzel.finetune.variation import variation
from ouzel.models import Model, computing, freeze
from ouzel.precision_names import EXACT, Precision, check_precision
from ouzel_protos.recipes import SEGMENT

_FIGURE = "miou"


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
            BatchNorms of the decoder then see fewer images at a time.
        precision: Of the steps of training: "exact", "tf32" or "bf16".

    Raises:
        InvalidArgument: The data, parameters, image_size or precision are wrong.
        FailedPrecondition: The base gives no features to decode.
        Diverged: The loss is not finite any more.
    """
    recipe = make_recipe(recipe, {}) if isinstance(recipe, str) else recipe
    if not recipe.epochs + recipe.frozen_epochs:
        raise InvalidArgument(
            "parameters.epochs: 0, and parameters.frozen_epochs is 0 as well: nothing would be learnt",
            field="parameters.epochs",
        )
    check_precision("precision", precision)
    begun = time.monotonic()
    base.preprocessing.check_takes_images("base")
    classes = tuple(classes)
    parts = split_masked(data, recipe, seed)
    base = dataclasses.replace(base, preprocessing=whole_side(networks.resized(base.preprocessing, image_size)))
    network = segmenter(base, classes, pretrained=recipe.pretrained, seed=seed)
    pictures = Pictures(base.preprocessing, room(device_of(base)), label_map(len(classes)))
    pictures.expect(parts.train)
    if resume is not None and resume["base"] != base.digest:
        resume = None  # begun with another network
    begun -= 0.0 if resume is None else float(resume["elapsed"])

    def told(event: Event) -> None:
        inner = event.state
        on_event(dataclasses.replace(event, state=None if inner is None else lambda: state(inner())))

    def state(training: dict[str, Any]) -> dict[str, Any]:
        return {"base": base.digest, "elapsed": time.monotonic() - begun, "training": training}

    training = Training(
        network,
        head_tensors(network),
        pictures,
        parts,
        recipe,
        seed,
        told,
        begun + max_training_seconds if max_training_seconds else math.inf,
        max(2, int(recipe.batch_size * batch_scale)),  # a BatchNorm learns from two images or more
        precision,
        Task(
            MaskedVariation(variation(recipe, base.preprocessing)),
            PixelLoss(recipe.dice),
            _measured(len(classes), recipe.dice),
            _FIGURE,
            new_norms=True,
        ),
    )
    progress, optimizer = Progress(), None
    if resume is not None:
        progress = progress_from(resume["training"])
        network.load_state_dict(resume["training"]["network"])
        optimizer = resume["training"]["optimizer"]
    try:
        with computing():
            progress = training.run(progress, optimizer)
            each, loss = counted(training, parts.test, len(classes), recipe.dice)
    finally:
        pictures.close()
    rows = progress.history
    best = max(rows, key=lambda row: row.get(_FIGURE, row["epoch"]))
    return Segmented(
        network=freeze(network).cpu().to(memory_format=torch.contiguous_format),
        labels=classes,
        preprocessing=base.preprocessing,
        arch=architecture(base),
        recipe=recipe,
        seed=seed,
        split=parts,
        test=pixel_score(each),
        counts=each,
        loss=loss,
        chosen="decoder" if best["epoch"] <= recipe.frozen_epochs else "all layers",
        history=tuple(rows),
        seconds=time.monotonic() - begun,
        steps=progress.steps,
        planned_steps=training.planned,
        out_of_time=progress.out_of_time,
        notes=_notes(progress, training.planned, max_training_seconds),
        precision=precision,
    )


def counted(training: Training, examples: tuple[Example, ...], classes: int, dice: float) -> tuple[np.ndarray, float]:
    """(N, K, K) counts of the pixels of each image as it is served, and the mean loss."""
    loss = PixelLoss(dice)
    counts: list[Tensor] = []
    losses: list[Tensor] = []
    with torch.no_grad(), closing(training.outputs(examples)) as outputs:
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


def _notes(progress: Progress, planned: int, limit: float) -> tuple[str, ...]:
    if not progress.out_of_time:
        return ()
    return (f"The time limit of {limit:g} s ended the training after {progress.steps} of {planned} steps.",)
