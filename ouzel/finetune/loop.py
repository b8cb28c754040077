"""The training loop. One linear read: no callbacks but one, no state but what `Progress` holds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.finetune.data import Example, Split
from ouzel.finetune.metrics import Score, class_weights, score
from ouzel.finetune.network import logits_of
from ouzel.finetune.pictures import Pictures, variation
from ouzel.finetune.progress import Progress
from ouzel.finetune.recipes import Recipe
from ouzel.precision_names import EXACT, Precision

_DIVISOR = 5.0  # the rate begins at so much of its highest, as fastai's fine_tune has it
_SIGN = 32 * 20  # images of a long validation after which there is a sign of life
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Diverged(FailedPrecondition):
    """The loss is not a finite number any more. The best weights until then are in the last state."""


@dataclass(frozen=True)
class Event:
    """What a run tells.

    Attributes:
        phase: "features", "head", "training" or "validating".
        step: Of `steps` in the phase; images where it is "features" or "validating".
        steps: Of the phase.
        metrics: loss, accuracy (of validation), learning_rate, images_per_second, seconds_left, epoch (passes done,
            with their fraction), as far as the phase has them.
        state: Gives all that is needed to go on from here; None where that is the start of the phase.
    """

    phase: str
    step: int
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    state: Callable[[], dict[str, Any]] | None = None


OnEvent = Callable[[Event], None]


@dataclass
class Training:
    """Trains a network on a split.

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

    def __post_init__(self) -> None:
        self.labels = {label: index for index, label in enumerate(self.split.labels)}
        self.per_epoch = len(self._batches(0))
        self.device = next(self.network.parameters()).device
        self.weights: Tensor | None = None
        if self.recipe.balance:
            self.weights = class_weights(self.classes(self.split.train), len(self.labels)).to(self.device)
        self.vary: v2.Transform = variation(self.recipe, self.pictures.preprocessing)
        self.network.to(memory_format=torch.channels_last)

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
            all_layers = progress.stage == 1
            optimizer = self._optimizer(all_layers)
            if optimizer_state is not None:
                optimizer.load_state_dict(optimizer_state)
                optimizer_state = None
            total, finished = stages[progress.stage] * self.per_epoch, True
            while progress.epoch < stages[progress.stage] and progress.stale < recipe.patience:
                batches = self._batches(progress.epoch + 1000 * progress.stage)
                self._mode(all_layers)
                while progress.step < len(batches):
                    done = progress.epoch * self.per_epoch + progress.step
                    rate = self._set_rate(optimizer, done / total, all_layers)
                    began = time.monotonic()
                    loss = self._step(optimizer, batches[progress.step], f"{self.seed} {progress.stage} {done}")
                    if not math.isfinite(loss):
                        raise Diverged(
                            f"training: the loss became {loss} in step {done + 1} at a learning rate of {rate:.3g}; "
                            "a lower parameters.learning_rate may help",
                            field="parameters.learning_rate",
                        )
                    progress.step, progress.loss = progress.step + 1, loss
                    progress.steps += 1
                    now = time.monotonic()
                    progress.elapsed = now - start
                    figures = {
                        "loss": loss,
                        "learning_rate": rate,
                        "images_per_second": recipe.batch_size / (now - began),
                    }
                    self._tell(progress, optimizer, done + 1, total, figures)
                    if now >= self.deadline:
                        break
                finished = progress.step == len(batches)
                self._validate(progress)
                progress.epoch, progress.step = progress.epoch + 1, 0
                self._tell(progress, optimizer, progress.epoch * self.per_epoch, total, {"loss": progress.loss})
                if not finished or self._is_over(progress):
                    break
            left = progress.epoch < stages[progress.stage] and progress.stale < recipe.patience
            if not finished or (self._is_over(progress) and (left or any(stages[progress.stage + 1 :]))):
                progress.out_of_time = True
                break
            progress.stage, progress.epoch, progress.step, progress.stale = progress.stage + 1, 0, 0, 0
        if progress.best is not None:
            self.network.load_state_dict(progress.best)
        self.network.eval()
        return progress

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

    @models.computing()
    @torch.no_grad()
    def logits(self, examples: tuple[Example, ...]) -> Tensor:
        """(N, K) float32 on the CPU, of the images as they are served."""
        self.network.eval()
        logits = []
        for start in range(0, len(examples), 32):
            if start and start % _SIGN == 0:
                self.on_event(Event("validating", start, len(examples)))
            x = self.pictures.as_served(examples[start : start + 32])
            x = x.to(self.device, memory_format=torch.channels_last)
            logits.append(logits_of(self.network(x)).float().cpu())
        return torch.cat(logits)

    def _batches(self, epoch: int) -> list[Tensor]:
        count = len(self.split.train)
        order = torch.randperm(count, generator=torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63))
        # A BatchNorm cannot learn from one image.
        return [rows for rows in order.split(self.recipe.batch_size) if len(rows) > 1 or count == 1]

    def _step(self, optimizer: torch.optim.Optimizer, rows: Tensor, draw: str) -> float:
        """One step of AdamW; `draw` names what chance gives, so that a resumed training gets the same."""
        examples = [self.split.train[row] for row in rows.tolist()]
        classes = torch.tensor([self.labels[each.label] for each in examples])
        optimizer.zero_grad(set_to_none=True)
        summed = 0.0
        with _chance(draw, self.device), models.computing(self.precision):
            for start in range(0, len(examples), self.micro):
                part = slice(start, start + self.micro)
                x = self.pictures.varied(examples[part], self.vary)
                x = x.to(self.device, memory_format=torch.channels_last)
                # bfloat16 has float32's range: no scaling of the loss.
                with models.forward_pass(self.precision, self.device):
                    logits = logits_of(self.network(x))
                losses = F.cross_entropy(
                    logits.float(),
                    classes[part].to(self.device),
                    self.weights,
                    reduction="sum",
                    label_smoothing=self.recipe.label_smoothing,
                )
                loss = losses / len(examples)
                loss.backward()
                summed += float(loss.detach())
        if math.isfinite(summed):
            optimizer.step()
        return summed

    def _optimizer(self, all_layers: bool) -> torch.optim.Optimizer:
        """Three groups of rates: the first half of the backbone, the second, and the head."""
        named = list(self.network.named_parameters())
        body = [parameter for name, parameter in named if name not in self.head]
        for parameter in body:
            parameter.requires_grad_(all_layers)
        groups = [[parameter for name, parameter in named if name in self.head]]
        if all_layers:
            groups = [body[: len(body) // 2], body[len(body) // 2 :], *groups]
        return torch.optim.AdamW(
            [{"params": group} for group in groups if group], weight_decay=self.recipe.weight_decay
        )

    def _set_rate(self, optimizer: torch.optim.Optimizer, done: float, all_layers: bool) -> float:
        """One cycle (Smith 2018, arXiv 1803.09820): up and down again along cosines. done: in [0, 1)."""
        recipe = self.recipe
        highest = recipe.learning_rate if all_layers else recipe.head_rate
        if done < recipe.warm_up:
            rate = highest * _between(1 / _DIVISOR, 1.0, done / recipe.warm_up)
        else:
            rate = highest * _between(1.0, 1e-5, (done - recipe.warm_up) / (1 - recipe.warm_up))
        last = len(optimizer.param_groups) - 1
        for number, group in enumerate(optimizer.param_groups):
            group["lr"] = rate * recipe.spread ** ((number - last) / max(last, 1))
        return rate

    def _mode(self, all_layers: bool) -> None:
        self.network.train()
        if not all_layers or not self.recipe.train_batchnorm:
            for module in self.network.modules():
                if isinstance(module, _NORMS):
                    module.eval()

    def _validate(self, progress: Progress) -> None:
        score = self.evaluate(self.split.validation)
        row = {"epoch": len(progress.history) + 1, "train_loss": progress.loss, "loss": score.loss}
        row |= {"accuracy": score.accuracy, "balanced_accuracy": score.balanced, "seconds": progress.elapsed}
        progress.history.append(row)
        key = (score.accuracy, -score.loss)
        progress.stale += 1
        if math.isfinite(score.loss) and key > progress.best_key:
            progress.best_key, progress.improved, progress.stale = key, True, 0
            # Copies: the tensors themselves go on learning.
            progress.best = {name: each.detach().clone() for name, each in self.network.state_dict().items()}

    def _tell(
        self,
        progress: Progress,
        optimizer: torch.optim.Optimizer,
        done: int,
        total: int,
        figures: Mapping[str, float],
    ) -> None:
        left = min((total - done) * progress.elapsed / done, max(0.0, self.deadline - time.monotonic()))
        metrics = {**figures, "seconds_left": left, "epoch": done / self.per_epoch}
        if progress.history:
            metrics["accuracy"] = progress.history[-1]["accuracy"]

        def state() -> dict[str, Any]:
            return {
                "progress": dict(vars(progress)),
                "network": self.network.state_dict(),
                "optimizer": optimizer.state_dict(),
            }

        self.on_event(Event("training", done, total, metrics, state))


@contextmanager
def _chance(draw: str, device: torch.device) -> Iterator[None]:
    """Seed torch's generators by a text, within; they are left as they were."""
    import zlib

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(zlib.crc32(draw.encode()))
        yield


def _between(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
