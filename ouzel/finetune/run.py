"""One tuning of a classifier: the head on frozen features, then all layers, and which of both is kept."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from ouzel.finetune import network as networks
from ouzel.finetune.data import Example, Split
from ouzel.finetune.distributed.lead import Lead
from ouzel.finetune.events import Event, OnEvent
from ouzel.finetune.features import BATCH, Cache, Features, MemoryCache, file_cache
from ouzel.finetune.head import Featured, HeadFitter, LinearHead
from ouzel.finetune.loop import Training
from ouzel.finetune.metrics import Score, class_weights, score
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.progress import Progress, progress_from
from ouzel.finetune.recipes import Recipe
from ouzel.finetune.resumed import origin
from ouzel.finetune.task import OnEpoch
from ouzel.finetune.tuned import Tuned
from ouzel.models import Model, freeze
from ouzel.models.heads import head_tensors
from ouzel.precision_names import Precision

# Is given the network with its head alone, as it would be the result, before all layers learn.
OnEarly = Callable[[Tuned], None]


@dataclass
class Run:
    """One tuning.

    Attributes:
        base: What is tuned, with the preprocessing that it gets.
        split: What is learnt from.
        own: The same before it was extended.
        recipe: How.
        seed: Of all that is drawn.
        pictures: Decodes the examples.
        cache: Of features, or its folder; None keeps them in memory.
        on_event: Hears how it goes.
        batch_scale: Share of the usual images that go through the network at a time.
        begun: Of `time.monotonic()`, less what earlier attempts took.
        max_training_seconds: 0 for no limit.
        fitter: Of the last layer.
        precision: Of the steps.
        early: Is given the network with its head alone; None if nobody wants it.
        lead: Has other processes compute parts of each batch; None where there are none.
        on_epoch: Hears the figures of each epoch, and may raise to end the training.
    """

    base: Model
    split: Split
    own: Split
    recipe: Recipe
    seed: int
    pictures: Pictures
    cache: str | Path | Cache | None
    on_event: OnEvent
    batch_scale: float
    begun: float
    max_training_seconds: float
    fitter: HeadFitter
    precision: Precision
    early: OnEarly | None = None
    lead: Lead | None = None
    on_epoch: OnEpoch | None = None
    _refitted: LinearHead | None = field(default=None, init=False)  # learnt from what it was chosen by, too

    def result(self, resume: Mapping[str, Any] | None) -> Tuned:
        """Trains, from where `resume` stands if it is given."""
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
            if self.early is not None:
                self._refitted = LinearHead(**resume["early"]) if _has(resume, "early") else self._refit(head)
            self._tell_head(head, head_score, resume)
            if self.early is not None:
                self._give(training, head_score)
        if recipe.epochs:
            progress = self._train(training, progress, resume, head)
            if progress.history:
                candidates[recipe.name] = max(row["accuracy"] for row in progress.history)
        only_head = head is not None and not progress.improved
        if only_head and head is not None:
            # What was kept back for choosing may now be learnt from too.
            head = self._refitted or self._refit(head)
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

    def _give(self, training: Training, head_score: Score) -> None:
        """Hands out the network with the head as it would be the result. What is done with it costs no training."""
        assert self.early is not None
        assert self._refitted is not None
        since = time.monotonic()
        head, base, test = self._refitted, self.base, self.split.test
        network = networks.renewed(base, len(self.split.labels), pretrained=self.recipe.pretrained, seed=self.seed)
        networks.install_head(network, self._head_name, head.weight, head.bias)
        logits = head.logits(self._features.of(test))
        given = Tuned(
            network=freeze(network).cpu(),
            labels=self.split.labels,
            preprocessing=base.preprocessing,
            recipe=self.recipe,
            seed=self.seed,
            split=self.own,
            test=score(logits, training.classes(test)),
            validation={self.fitter.name: head_score.accuracy},
            chosen=self.fitter.name,
            history=(),
            logits=logits,
            seconds=since - self.begun,
            planned_steps=training.planned,
            precision=self.precision,
        )
        self.early(given)
        spent = time.monotonic() - since
        self.begun, training.deadline = self.begun + spent, training.deadline + spent

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
            lead=self.lead,
            on_epoch=self.on_epoch,
        )

    def _head(self, network: nn.Module, resume: Mapping[str, Any] | None, training: Training) -> LinearHead:
        """The logistic regression, put into the network; of an earlier attempt if there is one."""
        base = self.base
        self._head_name = networks.linear_head(network, base.arch, base.preprocessing.channels)
        cache = MemoryCache() if self.cache is None else self.cache
        if isinstance(cache, (str, Path)):
            cache = file_cache(Path(cache), base.digest, base.preprocessing)
        batch = max(1, int(BATCH * self.batch_scale))
        self._features = Features(networks.backbone(base, self._head_name), self.pictures, cache, batch)
        if _has(resume, "head"):
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

    def _tell_head(self, head: LinearHead, head_score: Score, resume: Mapping[str, Any] | None) -> None:
        metrics = {"accuracy": head_score.accuracy, "loss": head_score.loss}
        training = None if resume is None else resume.get("training")  # not to be lost by who saves this
        self.on_event(Event("head", 1, 1, metrics, lambda: self._state(head, training)))

    def _state(self, head: LinearHead | None, training: dict[str, Any] | None) -> dict[str, Any]:
        return {
            **origin(self.base, self.recipe),
            "elapsed": time.monotonic() - self.begun,
            "head": _plain(head),
            "early": _plain(self._refitted),
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


def _plain(head: LinearHead | None) -> dict[str, Any] | None:
    return None if head is None else {"weight": head.weight, "bias": head.bias, "c": head.c}


def _has(resume: Mapping[str, Any] | None, name: str) -> TypeGuard[Mapping[str, Any]]:
    return resume is not None and bool(resume.get(name))
