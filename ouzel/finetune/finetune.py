"""Tuning a network on labelled images, from the split to the figures."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ouzel.errors import InvalidArgument
from ouzel.finetune import data as data_module
from ouzel.finetune import network as networks
from ouzel.finetune.data import Example, Split
from ouzel.finetune.devices import room
from ouzel.finetune.distributed.lead import Launcher, check_workers, leading
from ouzel.finetune.distributed.processes import local
from ouzel.finetune.events import OnEvent
from ouzel.finetune.features import Cache
from ouzel.finetune.head import HeadFitter, LogisticFitter
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.recipes import Recipe, make_recipe
from ouzel.finetune.resumed import resumed
from ouzel.finetune.run import OnEarly, Run
from ouzel.finetune.task import OnEpoch
from ouzel.finetune.tuned import Tuned
from ouzel.models import Model, Preprocessing, computing
from ouzel.precision_names import EXACT, Precision, check_precision
from ouzel.task_names import CLASSIFICATION
from ouzel_protos.recipes import FINETUNE_DEFAULT

# Gives other images to train on and to choose by. It is not shown those that are held out.
Extend = Callable[[Split, Preprocessing], Split]


def finetune(
    base: Model,
    data: Sequence[Example],
    recipe: Recipe | str = FINETUNE_DEFAULT,
    *,
    seed: int = 0,
    image_size: int = 0,
    max_training_seconds: float = 0.0,
    cache: str | Path | Cache | None = None,
    on_event: OnEvent = lambda event: None,
    resume: Mapping[str, Any] | None = None,
    batch_scale: float = 1.0,
    extend: Extend | None = None,
    fitter: HeadFitter | None = None,
    precision: Precision = EXACT,
    early: OnEarly | None = None,
    workers: int = 1,
    launcher: Launcher = local,
    on_epoch: OnEpoch | None = None,
) -> Tuned:
    """Tune a model on labelled images. The base stays as it is; work happens on its device.

    Args:
        base: What is tuned.
        data: The images.
        recipe: Or its name, one of RECIPES.
        seed: Of all that is drawn.
        image_size: Pixels along each edge of the input; 0 as the base has it.
        max_training_seconds: Training ends after that with its best; 0 for no limit.
        cache: A folder for features, which trainings may share; or a cache of this base's at this size.
        on_event: Hears how it goes, and may raise to end it.
        resume: The state of an event of a run with the same arguments. One of another base or recipe is left out.
        batch_scale: Share of the usual images that go through the network at a time, where memory is short; the
            gradients stay the same.
        extend: Gives other images to learn from and to choose by, made from those of the split; None takes these.
        fitter: Of the last layer; None is one logistic regression.
        precision: Of the steps of training: "exact", or "tf32" or "bf16", which are faster on a GPU. Features and
            figures are computed exactly in any case. `on_event` runs while PyTorch is set to that.
        early: Is given what would be the result if only the head had learnt, on frozen features, before all layers
            learn: once in each run, in one that is resumed too, and always with the same weights. The time that this
            takes does not count.
        workers: Processes that compute each step together, this one included; each gets a part of the batch. The
            result is that of one but for rounding, and for what a network with dropout draws.
        launcher: Starts the other workers; on this machine by default.
        on_epoch: Hears the figures of each epoch, and may raise to end it.

    Raises:
        InvalidArgument: The data, parameters, image_size, precision or workers are wrong; or `early` is asked of a
            recipe without a head that learns first.
        RankLost: A worker was lost. The state that was told last can be gone on from.
        FailedPrecondition: The base is no classifier, or the recipe cannot tune its network.
        Diverged: The loss is not finite any more.
    """
    recipe = make_recipe(recipe, {}) if isinstance(recipe, str) else recipe
    check_precision("precision", precision)
    base.need(CLASSIFICATION, "recipes", "base")
    if early is not None and not (recipe.regression and recipe.epochs):
        raise InvalidArgument(f"early: {recipe.name} has no head that learns before all layers do", field="early")
    check_workers(recipe, workers)
    begun = time.monotonic()
    base.preprocessing.check_takes_images("base")
    parts = data_module.split(data, recipe, seed)
    preprocessing = networks.resized(base.preprocessing, image_size)
    base = dataclasses.replace(base, preprocessing=preprocessing)
    if image_size:
        networks.check_size(base, training=bool(recipe.epochs))
    own = parts
    if extend is not None:
        shown = extend(Split(own.train, own.validation, ()), preprocessing)  # what is held out is not seen
        parts = Split(shown.train, shown.validation, own.test)
    device = next(base.network.parameters()).device
    pictures = Pictures(preprocessing, room(device))
    if recipe.epochs:
        pictures.expect(parts.train)
    resume = resumed(resume, base, recipe)
    elapsed = 0.0 if resume is None else float(resume["elapsed"])
    run = Run(
        base,
        parts,
        own,
        recipe,
        seed,
        pictures,
        cache,
        on_event,
        batch_scale,
        begun - elapsed,
        max_training_seconds,
        fitter or LogisticFitter(device),
        precision,
        early,
        on_epoch=on_epoch,
    )
    try:
        with computing(), leading(launcher, workers, on_event) as run.lead:
            return run.result(resume)
    finally:
        pictures.close()
