"""Tuning a network on labelled images, from the split to the figures."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ouzel.finetune import data as data_module
from ouzel.finetune import network as networks
from ouzel.finetune.data import Example, Split
from ouzel.finetune.devices import room
from ouzel.finetune.features import BATCH, Features, MemoryCache, file_cache
from ouzel.finetune.head import Featured, HeadFitter, LinearHead, LogisticFitter
from ouzel.finetune.loop import Event, OnEvent, Training
from ouzel.finetune.metrics import Score, class_weights, score
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.progress import Progress, progress_from
from ouzel.finetune.recipes import Recipe, make_recipe
from ouzel.finetune.tuned import Tuned
from ouzel.models import Model, Preprocessing, computing, freeze
from ouzel.models.heads import head_tensors
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
    cache: str | Path | None = None,
    on_event: OnEvent = lambda event: None,
    resume: Mapping[str, Any] | None = None,
    batch_scale: float = 1.0,
    extend: Extend | None = None,
    fitter: HeadFitter | None = None,
    precision: Precision = EXACT,
) -> Tuned:
    """Tune a model on labelled images. The base stays as it is; work happens on its device.

    Args:
        base: What is tuned.
        data: The images.
        recipe: Or its name, one of RECIPES.
        seed: Of all that is drawn.
        image_size: Pixels along each edge of the input; 0 as the base has it.
        max_training_seconds: Training ends after that with its best; 0 for no limit.
        cache: A folder for features, which trainings may share.
        on_event: Hears how it goes, and may raise to end it.
        resume: The state of an event of a run with the same arguments.
        batch_scale: Share of the usual images that go through the network at a time, where memory is short; the
            gradients stay the same.
        extend: Gives other images to learn from and to choose by, made from those of the split; None takes these.
        fitter: Of the last layer; None is one logistic regression.
        precision: Of the steps of training: "exact", or "tf32" or "bf16", which are faster on a GPU. Features and
            figures are computed exactly in any case. `on_event` runs while PyTorch is set to that.

    Raises:
        InvalidArgument: The data, parameters, image_size or precision are wrong.
        FailedPrecondition: The base is no classifier, or the recipe cannot tune its network.
        Diverged: The loss is not finite any more.
    """
    recipe = make_recipe(recipe, {}) if isinstance(recipe, str) else recipe
    check_precision("precision", precision)
    base.need(CLASSIFICATION, "recipes", "base")
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
    if resume is not None and resume["base"] != base.digest:
        resume = None  # begun with another network
    elapsed = 0.0 if resume is None else float(resume["elapsed"])
    run = _Run(
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
    )
    try:
        with computing():
            return run.result(resume)
    finally:
        pictures.close()


@dataclass
class _Run:
    base: Model
    split: Split
    own: Split  # before it was extended
    recipe: Recipe
    seed: int
    pictures: Pictures
    cache: str | Path | None
    on_event: OnEvent
    batch_scale: float
    begun: float
    max_training_seconds: float
    fitter: HeadFitter
    precision: Precision

    def result(self, resume: Mapping[str, Any] | None) -> Tuned:
        base, recipe, labels = self.base, self.recipe, self.split.labels
        network = networks.renewed(base, len(labels), pretrained=recipe.pretrained, seed=self.seed)
        training = self._training(network)
        candidates: dict[str, float] = {}
        head = self._head(network, resume, training) if recipe.regression else None
        progress = Progress()
        if head is not None:
            head_score = self._score(head, self.split.validation)
            candidates[self.fitter.name] = head_score.accuracy
            progress.best_key = (head_score.accuracy, -head_score.loss)
            progress.best = {name: each.detach().clone() for name, each in network.state_dict().items()}
            self._tell_head(head, head_score)
        if recipe.epochs:
            progress = self._train(training, progress, resume, head)
            if progress.history:
                candidates[recipe.name] = max(row["accuracy"] for row in progress.history)
        only_head = head is not None and not progress.improved
        if only_head and head is not None:
            # What was kept back for choosing may now be learnt from too.
            head = self._refit(head)
            networks.install_head(network, self._head_name, head.weight, head.bias)
            logits = head.logits(self._features.of(self.split.test))
        else:
            logits = training.logits(self.split.test)
        return Tuned(
            network=freeze(network).cpu().to(memory_format=torch.contiguous_format),
            labels=labels,
            preprocessing=base.preprocessing,
            recipe=recipe,
            seed=self.seed,
            split=self.own,
            test=score(logits, training.classes(self.split.test)),
            validation=candidates,
            chosen=self.fitter.name if only_head else recipe.name,
            history=tuple(progress.history),
            logits=logits,
            seconds=time.monotonic() - self.begun,
            steps=progress.steps,
            precision=self.precision,
            planned_steps=training.planned,
            out_of_time=progress.out_of_time,
            notes=self._notes(progress, training.planned, only_head),
            used={}
            if self.split is self.own
            else {"train": len(self.split.train), "validation": len(self.split.validation)},
        )

    def _notes(self, progress: Progress, planned: int, only_head: bool) -> tuple[str, ...]:
        if not progress.out_of_time:
            return ()
        limit = f"The time limit of {self.max_training_seconds:g} s"
        head = "the model is the base with a new head, a logistic regression on its features"
        if not progress.steps:
            return (f"{limit} was over before any fine-tuning: {head}. A higher limit lets the layers learn too.",)
        ended = f"{limit} ended the training after {progress.steps} of {planned} steps"
        return (f"{ended}, in which nothing better was found: {head}." if only_head else f"{ended}.",)

    def _training(self, network: nn.Module) -> Training:
        deadline = self.begun + self.max_training_seconds if self.max_training_seconds else math.inf
        head = head_tensors(self.base.arch, self.base.preprocessing.channels)
        micro = max(1, int(self.recipe.batch_size * self.batch_scale))
        return Training(
            network,
            head,
            self.pictures,
            self.split,
            self.recipe,
            self.seed,
            self.on_event,
            deadline,
            micro,
            self.precision,
        )

    def _head(self, network: nn.Module, resume: Mapping[str, Any] | None, training: Training) -> LinearHead:
        """The logistic regression, put into the network; of an earlier attempt if there is one."""
        base = self.base
        self._head_name = networks.linear_head(network, base.arch, base.preprocessing.channels)
        cache = MemoryCache() if self.cache is None else file_cache(Path(self.cache), base.digest, base.preprocessing)
        batch = max(1, int(BATCH * self.batch_scale))
        self._features = Features(networks.backbone(base, self._head_name), self.pictures, cache, batch)
        if resume is not None and resume.get("head"):
            head = LinearHead(**resume["head"])
        else:
            train = self._train_features(self.split.train)
            chosen_by = self.split.validation
            validation = Featured(self._told(chosen_by), training.classes(chosen_by), chosen_by)
            head = self.fitter.choose(train, validation, self._weights(train.classes))
        networks.install_head(network, self._head_name, head.weight, head.bias)
        return head

    def _train(
        self, training: Training, progress: Progress, resume: Mapping[str, Any] | None, head: LinearHead | None
    ) -> Progress:
        optimizer = None
        if resume is not None and "training" in resume:
            progress = progress_from(resume["training"])
            training.network.load_state_dict(resume["training"]["network"])
            optimizer = resume["training"]["optimizer"]

        def on_event(event: Event) -> None:
            inner = event.state
            state = None if inner is None else lambda: self._state(head, inner())
            self.on_event(dataclasses.replace(event, state=state))

        training.on_event = on_event
        return training.run(progress, optimizer)

    def _tell_head(self, head: LinearHead, head_score: Score) -> None:
        metrics = {"accuracy": head_score.accuracy, "loss": head_score.loss}
        self.on_event(Event("head", 1, 1, metrics, lambda: self._state(head, None)))

    def _state(self, head: LinearHead | None, training: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "base": self.base.digest,
            "elapsed": time.monotonic() - self.begun,
            "head": None if head is None else {"weight": head.weight, "bias": head.bias, "c": head.c},
        } | ({} if training is None else {"training": training})

    def _refit(self, head: LinearHead) -> LinearHead:
        data = self._train_features((*self.split.train, *self.split.validation))
        return self.fitter.refit(data, self._weights(data.classes), head)

    def _train_features(self, examples: tuple[Example, ...]) -> Featured:
        index = {label: number for number, label in enumerate(self.split.labels)}
        classes = torch.tensor([index[each.label] for each in examples])
        features = self._told(examples)
        if not self.recipe.flip:
            return Featured(features, classes, examples)
        mirrored = self._told(examples, mirrored=True)
        return Featured(torch.cat([features, mirrored]), classes.repeat(2), (*examples, *examples))

    def _told(self, examples: tuple[Example, ...], mirrored: bool = False) -> Tensor:
        def tell(done: int, of: int) -> None:
            self.on_event(Event("features", done, of))

        return self._features.of(examples, mirrored=mirrored, tell=tell)

    def _weights(self, classes: Tensor) -> Tensor:
        count = len(self.split.labels)
        return class_weights(classes, count) if self.recipe.balance else torch.ones(count)

    def _score(self, head: LinearHead, examples: tuple[Example, ...]) -> Score:
        index = {label: number for number, label in enumerate(self.split.labels)}
        classes = torch.tensor([index[each.label] for each in examples])
        return score(head.logits(self._features.of(examples)), classes)
