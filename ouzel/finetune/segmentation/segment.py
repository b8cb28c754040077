"""A network that tells the class of each pixel, from a classifier and images with label maps."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ouzel.errors import InvalidArgument
from ouzel.finetune import network as networks
from ouzel.finetune.data import Example, Split
from ouzel.finetune.devices import room
from ouzel.finetune.events import Event, OnEvent
from ouzel.finetune.loop import State, Task, Training
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
from ouzel.task_names import SEGMENTATION
from ouzel_protos.recipes import SEGMENT

_FIGURE = "miou"
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

    Raises:
        InvalidArgument: The data, parameters, image_size or precision are wrong; or `early` is asked of a training of
            the decoder alone, or of all layers from the start.
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
    if early is not None and not (recipe.epochs and recipe.frozen_epochs):
        raise InvalidArgument(
            "early: needs epochs in which the decoder learns alone, and epochs in which all layers learn; "
            "parameters.frozen_epochs or parameters.epochs is 0",
            field="early",
        )
    begun = time.monotonic()
    base.preprocessing.check_takes_images("base")
    classes = tuple(classes)
    parts = split_masked(data, recipe, seed)
    base = dataclasses.replace(base, preprocessing=whole_side(networks.resized(base.preprocessing, image_size)))
    run = _Run(base, classes, parts, recipe, seed, begun, max_training_seconds, on_event, early, precision)
    try:
        with computing():
            return run.result(resume, batch_scale)
    finally:
        run.pictures.close()


@dataclass
class _Run:
    """One training. The attributes are the arguments of `segment`; base has the preprocessing that it gets."""

    base: Model
    classes: tuple[str, ...]
    parts: Split
    recipe: Recipe
    seed: int
    begun: float
    seconds: float
    on_event: OnEvent
    early: OnEarly | None
    precision: Precision

    def __post_init__(self) -> None:
        self.pictures = Pictures(self.base.preprocessing, room(device_of(self.base)), label_map(len(self.classes)))
        self.pictures.expect(self.parts.train)
        self._decoder: Mapping[str, Any] | None = None  # what has learnt alone, for later attempts

    def result(self, resume: Mapping[str, Any] | None, batch_scale: float) -> Segmented:
        network = self._new()
        if resume is not None and resume["base"] != self.base.digest:
            resume = None  # begun with another network
        self.begun -= 0.0 if resume is None else float(resume["elapsed"])
        training = self._training(network, max(2, int(self.recipe.batch_size * batch_scale)))  # as BatchNorms need
        progress, optimizer = Progress(), None
        if resume is not None:
            progress = progress_from(resume["training"])
            network.load_state_dict(resume["training"]["network"])
            optimizer = resume["training"]["optimizer"]
        if self.early is not None and resume is not None and resume.get("decoder"):
            self._decoder = resume["decoder"]
            since = time.monotonic()
            self._give(training)
            self.begun, training.deadline = self._later(since), training.deadline + time.monotonic() - since
        progress = training.run(progress, optimizer)
        made = self._made(training, network, progress)
        if self.early is not None and self._decoder is None:
            self.early(made)
        return made

    def _new(self) -> nn.Module:
        return segmenter(self.base, self.classes, pretrained=self.recipe.pretrained, seed=self.seed)

    def _training(self, network: nn.Module, micro: int) -> Training:
        recipe = self.recipe

        def told(event: Event) -> None:
            inner = event.state
            self.on_event(dataclasses.replace(event, state=None if inner is None else lambda: self._state(inner())))

        def between(progress: Progress, state: State) -> None:
            assert progress.best is not None
            if self._decoder is None:  # else an attempt before this one had got as far
                weights = {name: progress.best[name].clone() for name in head_tensors(network)}
                rows = [dict(row) for row in progress.history]
                self._decoder = {"weights": weights, "history": rows, "steps": progress.steps}
                told(Event("head", 1, 1, {}, state))
                since = time.monotonic()
                self._give(training)
                self.begun = self._later(since)

        training = Training(
            network,
            head_tensors(network),
            self.pictures,
            self.parts,
            recipe,
            self.seed,
            told,
            self.begun + self.seconds if self.seconds else math.inf,
            micro,
            self.precision,
            Task(
                MaskedVariation(variation(recipe, self.base.preprocessing)),
                PixelLoss(recipe.dice),
                _measured(len(self.classes), recipe.dice),
                _FIGURE,
                new_norms=not (recipe.pretrained and self.base.task == SEGMENTATION),
            ),
            None if self.early is None else between,
        )
        return training

    def _later(self, since: float) -> float:
        """When the run has begun, if what was done since then does not count."""
        return self.begun + time.monotonic() - since

    def _state(self, training: dict[str, Any]) -> dict[str, Any]:
        state = {"base": self.base.digest, "elapsed": time.monotonic() - self.begun, "training": training}
        return state | ({} if self._decoder is None else {"decoder": self._decoder})

    def _give(self, training: Training) -> None:
        """Hands out the network whose decoder alone has learnt, as it would be the result."""
        assert self.early is not None
        assert self._decoder is not None
        network = self._new().to(memory_format=torch.channels_last)
        network.load_state_dict(self._decoder["weights"], strict=False)
        alone = Progress(history=list(self._decoder["history"]), steps=self._decoder["steps"])
        self.early(self._made(training, network, alone))

    def _made(self, training: Training, network: nn.Module, progress: Progress) -> Segmented:
        recipe, rows = self.recipe, progress.history
        each, loss = counted(training, self.parts.test, len(self.classes), recipe.dice, network)
        rated = [row for row in rows if math.isfinite(row.get("loss", 0.0))] or rows
        best = max(rated, key=lambda row: (row.get(_FIGURE, row["epoch"]), -row.get("loss", 0.0)))
        return Segmented(
            network=freeze(network).cpu().to(memory_format=torch.contiguous_format),
            labels=self.classes,
            preprocessing=self.base.preprocessing,
            arch=architecture(self.base),
            recipe=recipe,
            seed=self.seed,
            split=self.parts,
            test=pixel_score(each),
            counts=each,
            loss=loss,
            chosen="decoder" if best["epoch"] <= self._alone(rows) else "all layers",
            history=tuple(rows),
            seconds=time.monotonic() - self.begun,
            steps=progress.steps,
            planned_steps=training.planned,
            out_of_time=progress.out_of_time,
            notes=_notes(progress, training.planned, self.seconds),
            precision=self.precision,
        )

    def _alone(self, rows: Sequence[Mapping[str, float]]) -> int:
        """Epochs in which the decoder learnt alone: fewer than planned if it got no better for long."""
        return self.recipe.frozen_epochs if self._decoder is None else len(self._decoder["history"])


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


def _notes(progress: Progress, planned: int, limit: float) -> tuple[str, ...]:
    if not progress.out_of_time:
        return ()
    return (f"The time limit of {limit:g} s ended the training after {progress.steps} of {planned} steps.",)
