"""The training loop. One linear read: no callbacks but one, no state but what `Progress` holds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.finetune.data import Example, Split
from ouzel.finetune.devices import filled, wants_one_shape
from ouzel.finetune.distributed.lead import Lead
from ouzel.finetune.events import Event, OnEvent
from ouzel.finetune.metrics import Score, class_weights, score
from ouzel.finetune.network import logits_of
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.progress import Progress
from ouzel.finetune.recipes import Recipe
from ouzel.finetune.schedule import make_optimizer, rate, restore, set_rate
from ouzel.finetune.source import Source
from ouzel.finetune.steps import Stepper
from ouzel.finetune.task import Diverged, OnEpoch, State, Task
from ouzel.finetune.variation import variation
from ouzel.precision_names import EXACT, Precision
from ouzel.saliency.transfer import sent

TELL_EVERY = 0.5  # s of training, at most, between two events; before each, the host waits for the device
_BATCH = 32  # images of a validation that go through the network at a time
_SIGN = _BATCH * 20  # images of a long validation after which there is a sign of life
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class Training:
    """Trains a network on a split.

    Steps follow each other without waiting for the device. Only before something is told, and at the end of an epoch,
    are the loss and the faults read. So a loss that is not finite raises Diverged a little later than it came about;
    until then no weight changes, and no state is handed out.

    Attributes:
        network: In eval mode, all parameters asking for gradients; trained in place, and left with its best weights.
        head: Names of the head's tensors.
        pictures: Decodes the examples.
        split: The examples.
        recipe: How.
        seed: Of order and variation.
        on_event: Hears how it goes.
        deadline: Of `time.monotonic()`, when to end with what there is.
        micro: Images that go through the network at a time; smaller ones give the same gradients with less memory.
        precision: Of the steps; what is measured is computed exactly.
        task: What is learnt; None: the classes of the images.
        between: Called when the head alone has learnt, before all layers do, with what gives the state. The time that
            it takes does not count.
        lead: Has other processes compute parts of each batch; None where there are none.
        on_epoch: Hears the figures of each epoch, and may raise to end the training.
    """

    network: nn.Module
    head: frozenset[str]
    pictures: Pictures
    split: Split
    recipe: Recipe
    seed: int
    on_event: OnEvent
    deadline: float = math.inf
    micro: int = 1024
    precision: Precision = EXACT
    task: Task | None = None
    between: Callable[[Progress, State], None] | None = None
    lead: Lead | None = None
    on_epoch: OnEpoch | None = None

    def __post_init__(self) -> None:
        self.labels = {label: index for index, label in enumerate(self.split.labels)}
        self.per_epoch = len(self._batches(0))
        self.device = next(self.network.parameters()).device
        classes, weights = self.classes(self.split.train), None
        if self.recipe.balance and self.task is None:
            weights = class_weights(classes, len(self.labels)).to(self.device)
        self.targets = classes.to(self.device)
        vary = variation(self.recipe, self.pictures.preprocessing) if self.task is None else self.task.vary
        loss = None if self.task is None else self.task.loss
        self.network.to(memory_format=torch.channels_last)
        self.source = Source(self.pictures, self.split.train, self.device)
        one_shape = False if self._new_norms else None  # they would learn from what is filled in
        self.stepper = Stepper(
            self.network,
            vary,
            self.recipe,
            weights,
            self.micro,
            self.precision,
            one_shape=one_shape,
            loss=loss,
            lead=self.lead,
        )

    def run(self, progress: Progress, optimizer_state: dict[str, Any] | None = None) -> Progress:
        """Train from where `progress` stands to the end. Raises Diverged, and whatever on_event raises.

        After the deadline nothing more is trained, but for the one step without which there would be no result.
        """
        recipe, start = self.recipe, time.monotonic() - progress.elapsed
        stages = (recipe.frozen_epochs, recipe.epochs)
        progress.out_of_time = False
        while progress.stage < len(stages):
            if self._is_over(progress) and any(stages[progress.stage :]):
                progress.out_of_time = True
                break
            optimizer = make_optimizer(self.network, self.head, recipe, progress.stage == 1)
            if optimizer_state is not None:
                restore(optimizer, optimizer_state)
                optimizer_state = None
            finished = True
            while progress.epoch < stages[progress.stage] and progress.stale < recipe.patience:
                finished = self._epoch(progress, optimizer, start)
                self._validate(progress)
                progress.epoch, progress.step = progress.epoch + 1, 0
                self._tell(progress, optimizer, progress.epoch * self.per_epoch, {"loss": progress.loss})
                if self.on_epoch is not None:
                    self.on_epoch(progress.history[-1])
                if not finished or self._is_over(progress):
                    break
            left = progress.epoch < stages[progress.stage] and progress.stale < recipe.patience
            if not finished or (self._is_over(progress) and (left or any(stages[progress.stage + 1 :]))):
                progress.out_of_time = True
                break
            if self.between is not None and progress.stage == 0 and progress.best is not None:
                since = time.monotonic()
                self.between(progress, self._state(progress, optimizer))
                spent = time.monotonic() - since
                start, self.deadline = start + spent, self.deadline + spent
            progress.stage, progress.epoch, progress.step, progress.stale = progress.stage + 1, 0, 0, 0
        if progress.best is not None:
            self.network.load_state_dict(progress.best)
        self.network.eval()
        return progress

    def _epoch(self, progress: Progress, optimizer: torch.optim.Optimizer, start: float) -> bool:
        """Trains to the end of the epoch, or to the deadline; whether it was the former. start: of all attempts."""
        batches, first = self._batches(progress.epoch + 1000 * progress.stage), progress.epoch * self.per_epoch
        self._mode(progress.stage == 1)
        self.stepper.begin(optimizer, self.head, all_layers=progress.stage == 1)
        told, at = progress.step, time.monotonic()
        with closing(self.source.batches(batches[told:])) as images:
            for pixels, sizes in images:
                done = first + progress.step
                rate = self._rate(progress.stage, done)
                set_rate(optimizer, self.recipe, rate)
                rows, chance = batches[progress.step], (self.seed % 2**64, progress.stage, done)
                classes = self.targets[sent(rows, self.device)]
                self.stepper.take(optimizer, pixels, sizes, classes, chance, rows=rows.tolist())
                progress.step, progress.steps = progress.step + 1, progress.steps + 1
                now = time.monotonic()
                over = now >= self.deadline
                if over or now - at >= TELL_EVERY or progress.step == len(batches):
                    progress.loss = self._read(progress.stage, first + told)
                    now = time.monotonic()
                    progress.elapsed = now - start
                    images_done = sum(map(len, batches[told : progress.step]))
                    speed = images_done / max(now - at, 1e-9)
                    figures = {"loss": progress.loss, "learning_rate": rate, "images_per_second": speed}
                    self._tell(progress, optimizer, done + 1, figures)
                    told, at = progress.step, time.monotonic()
                if over:
                    break
        return progress.step == len(batches)

    def _read(self, stage: int, read: int) -> float:
        """The loss of the last step. read: steps of the stage that were read before. Raises Diverged."""
        reading = self.stepper.read()
        if not reading.wrong:
            return reading.loss
        done = read + reading.steps
        what = "a gradient is not finite" if math.isfinite(reading.loss) else f"the loss became {reading.loss}"
        raise Diverged(
            f"training: {what} in step {done + 1} at a learning rate of {self._rate(stage, done):.3g}; a lower "
            "parameters.learning_rate may help",
            field="parameters.learning_rate",
        )

    def _rate(self, stage: int, done: int) -> float:
        """done: steps of the stage."""
        steps = (self.recipe.frozen_epochs, self.recipe.epochs)[stage] * self.per_epoch
        return rate(self.recipe, done / steps, stage == 1)

    @property
    def _new_norms(self) -> bool:
        return self.task is not None and self.task.new_norms

    @property
    def planned(self) -> int:
        """Steps of the whole recipe."""
        return (self.recipe.frozen_epochs + self.recipe.epochs) * self.per_epoch

    def _is_over(self, progress: Progress) -> bool:
        return progress.best is not None and time.monotonic() >= self.deadline

    def classes(self, examples: tuple[Example, ...]) -> Tensor:
        """(N,) of int64, the index of each example's label."""
        return torch.tensor([self.labels[each.label] for each in examples])

    def evaluate(self, examples: tuple[Example, ...]) -> Score:
        """How good the network is on these examples, as it is now."""
        return score(self.logits(examples), self.classes(examples))

    def logits(self, examples: tuple[Example, ...]) -> Tensor:
        """(N, K) float32 on the CPU, of the images as they are served."""
        return torch.cat([logits for _, logits in self.outputs(examples)]).cpu()

    @models.computing()
    @torch.no_grad()
    def outputs(
        self, examples: tuple[Example, ...], network: nn.Module | None = None
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """What the network, or another one, says of images as they are served, batch by batch, on its device.

        Yields:
            (B, C, H, W) uint8, as `Pictures.served` gives it; the output (B, ...), float32.
        """
        network = (self.network if network is None else network).eval()
        parts = [examples[start : start + _BATCH] for start in range(0, len(examples), _BATCH)]
        with closing(self.pictures.served(parts)) as images:
            for start, pixels in zip(range(0, len(examples), _BATCH), images, strict=True):
                if start and start % _SIGN == 0:
                    self.on_event(Event("validating", start, len(examples)))
                pixels = sent(pixels, self.device)  # noqa: PLW2901
                x = pixels[:, : self.pictures.preprocessing.channels]
                if wants_one_shape(self.device):
                    x = filled(x, _BATCH)
                x = self.pictures.preprocessing.normalised(x).contiguous(memory_format=torch.channels_last)
                yield pixels, logits_of(network(x))[: len(pixels)].float()

    def _batches(self, epoch: int) -> list[Tensor]:
        count = len(self.split.train)
        order = torch.randperm(count, generator=torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63))
        # A BatchNorm cannot learn from one image.
        return [rows for rows in order.split(self.recipe.batch_size) if len(rows) > 1 or count == 1]

    def _mode(self, all_layers: bool) -> None:
        self.network.train()
        if not all_layers or not self.recipe.train_batchnorm:
            for name, module in self.network.named_modules():
                if isinstance(module, _NORMS) and not (self._new_norms and f"{name}.running_mean" in self.head):
                    module.eval()

    def _validate(self, progress: Progress) -> None:
        figures, key = (self._measure if self.task is None else self.task.measure)(self, progress)
        row = {"epoch": len(progress.history) + 1, "train_loss": progress.loss}
        progress.history.append(row | dict(figures) | {"seconds": progress.elapsed})
        progress.stale += 1
        if math.isfinite(key[1]) and key > progress.best_key:
            progress.best_key, progress.improved, progress.stale = key, True, 0
            # Copies: the tensors themselves go on learning.
            progress.best = {name: each.detach().clone() for name, each in self.network.state_dict().items()}

    @staticmethod
    def _measure(training: Training, _: Progress) -> tuple[Mapping[str, float], tuple[float, float]]:
        score = training.evaluate(training.split.validation)
        figures = {"loss": score.loss, "accuracy": score.accuracy, "balanced_accuracy": score.balanced}
        return figures, (score.accuracy, -score.loss)

    def _tell(
        self,
        progress: Progress,
        optimizer: torch.optim.Optimizer,
        done: int,
        figures: Mapping[str, float],
    ) -> None:
        total = (self.recipe.frozen_epochs, self.recipe.epochs)[progress.stage] * self.per_epoch
        left = min((total - done) * progress.elapsed / done, max(0.0, self.deadline - time.monotonic()))
        metrics = {**figures, "seconds_left": left, "epoch": done / self.per_epoch}
        figure = "accuracy" if self.task is None else self.task.figure
        if progress.history and figure in progress.history[-1]:
            metrics[figure] = progress.history[-1][figure]
        self.on_event(Event("training", done, total, metrics, self._state(progress, optimizer)))

    def _state(self, progress: Progress, optimizer: torch.optim.Optimizer) -> State:
        return lambda: {
            "progress": dict(vars(progress)),
            "network": self.network.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
