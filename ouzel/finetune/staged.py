"""A training in two stages on the features of another network: what is new learns alone, then all layers do.

Segmentations and detectors learn so. What is learnt is the caller's; here is what both have in common: to go on after
an interruption, to hand out what the first stage came to, and time that does not count.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from ouzel.errors import InvalidArgument
from ouzel.finetune.data import Split
from ouzel.finetune.distributed.lead import Lead
from ouzel.finetune.events import Event, OnEvent
from ouzel.finetune.loop import Training
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.progress import Progress, progress_from
from ouzel.finetune.recipes import Recipe
from ouzel.finetune.resumed import origin, resumed
from ouzel.finetune.task import State, Task
from ouzel.models import Model
from ouzel.precision_names import Precision, check_precision

R = TypeVar("R")


@dataclass(frozen=True)
class Learning(Generic[R]):
    """What is learnt.

    Attributes:
        what: The new part in a word, as in "the decoder learns alone".
        new: Gives the network as it is before it learns: always the same weights, on the base's device.
        head: Names in its state dict of what is new.
        task: What is learnt, of a network that `new` gave.
        figure: Of `task.measure`, by which the best epoch is chosen.
        made: Gives the result, of the training, a network with the weights that were chosen, and what all results have:
            recipe, seed, split, chosen, history, seconds, steps, planned_steps, out_of_time, notes, precision.
    """

    what: str
    new: Callable[[], nn.Module]
    head: Callable[[nn.Module], frozenset[str]]
    task: Callable[[nn.Module], Task]
    figure: str
    made: Callable[[Training, nn.Module, Mapping[str, Any]], R]


def check_stages(recipe: Recipe, what: str, precision: Precision, *, early: bool) -> None:
    """Raises InvalidArgument if nothing would be learnt, or `early` is asked of a training of one stage."""
    if not recipe.epochs + recipe.frozen_epochs:
        raise InvalidArgument(
            "parameters.epochs: 0, and parameters.frozen_epochs is 0 as well: nothing would be learnt",
            field="parameters.epochs",
        )
    check_precision("precision", precision)
    if early and not (recipe.epochs and recipe.frozen_epochs):
        raise InvalidArgument(
            f"early: needs epochs in which the {what} learns alone, and epochs in which all layers learn; "
            "parameters.frozen_epochs or parameters.epochs is 0",
            field="early",
        )


@dataclass
class Staged(Generic[R]):
    """One training.

    Attributes:
        learning: What is learnt.
        base: With the preprocessing that the result has.
        pictures: Decode the images.
        parts: The images.
        recipe: How.
        seed: Of all that is drawn.
        begun: Of `time.monotonic()`.
        seconds: After which training ends with its best; 0 for no limit.
        on_event: Hears how it goes.
        early: Is given what the first stage came to, before the second one; None for nobody.
        precision: Of the steps.
        lead: Has other processes compute parts of each batch; None where there are none.
    """

    learning: Learning[R]
    base: Model
    pictures: Pictures
    parts: Split
    recipe: Recipe
    seed: int
    begun: float
    seconds: float
    on_event: OnEvent
    early: Callable[[R], None] | None
    precision: Precision
    lead: Lead | None = None

    def __post_init__(self) -> None:
        self._alone: Mapping[str, Any] | None = None  # what has learnt alone, for later attempts

    def result(self, resume: Mapping[str, Any] | None, batch_scale: float) -> R:
        """Learns, or goes on. resume: the state of an event; batch_scale: share of the usual images at a time."""
        network = self.learning.new()
        resume = resumed(resume, self.base, self.recipe)
        self.begun -= 0.0 if resume is None else float(resume["elapsed"])
        training = self._training(network, max(2, int(self.recipe.batch_size * batch_scale)))  # as BatchNorms need
        progress, optimizer = Progress(), None
        if resume is not None:
            progress = progress_from(resume["training"])
            network.load_state_dict(resume["training"]["network"])
            optimizer = resume["training"]["optimizer"]
        if self.early is not None and resume is not None and resume.get("head"):
            self._alone = resume["head"]
            since = time.monotonic()
            self._give(training)
            self.begun, training.deadline = self._later(since), training.deadline + time.monotonic() - since
        progress = training.run(progress, optimizer)
        made = self._made(training, network, progress)
        if self.early is not None and self._alone is None:
            self.early(made)
        return made

    def _training(self, network: nn.Module, micro: int) -> Training:
        head = self.learning.head(network)

        def told(event: Event) -> None:
            inner = event.state
            self.on_event(dataclasses.replace(event, state=None if inner is None else lambda: self._state(inner())))

        def between(progress: Progress, state: State) -> None:
            assert progress.best is not None
            if self._alone is None:  # else an attempt before this one had got as far
                weights = {name: progress.best[name].clone() for name in head}
                rows = [dict(row) for row in progress.history]
                self._alone = {"weights": weights, "history": rows, "steps": progress.steps}
                told(Event("head", 1, 1, {}, state))
                since = time.monotonic()
                self._give(training)
                self.begun = self._later(since)

        training = Training(
            network,
            head,
            self.pictures,
            self.parts,
            self.recipe,
            self.seed,
            told,
            self.begun + self.seconds if self.seconds else math.inf,
            micro,
            self.precision,
            self.learning.task(network),
            None if self.early is None else between,
            self.lead,
        )
        return training

    def _later(self, since: float) -> float:
        """When the run has begun, if what was done since then does not count."""
        return self.begun + time.monotonic() - since

    def _state(self, training: dict[str, Any]) -> dict[str, Any]:
        state = origin(self.base, self.recipe) | {"elapsed": time.monotonic() - self.begun, "training": training}
        return state | ({} if self._alone is None else {"head": self._alone})

    def _give(self, training: Training) -> None:
        """Hands out the network whose new part alone has learnt, as it would be the result."""
        assert self.early is not None
        assert self._alone is not None
        network = self.learning.new().to(memory_format=torch.channels_last)
        network.load_state_dict(self._alone["weights"], strict=False)
        alone = Progress(history=list(self._alone["history"]), steps=self._alone["steps"])
        self.early(self._made(training, network, alone))

    def _made(self, training: Training, network: nn.Module, progress: Progress) -> R:
        figure, rows = self.learning.figure, progress.history
        rated = [row for row in rows if math.isfinite(row.get("loss", 0.0))] or rows
        best = max(rated, key=lambda row: (row.get(figure, row["epoch"]), -row.get("loss", 0.0)))
        common: dict[str, Any] = {
            "recipe": self.recipe,
            "seed": self.seed,
            "split": self.parts,
            "chosen": self.learning.what if best["epoch"] <= self._epochs_alone() else "all layers",
            "history": tuple(rows),
            "seconds": time.monotonic() - self.begun,
            "steps": progress.steps,
            "planned_steps": training.planned,
            "out_of_time": progress.out_of_time,
            "notes": _notes(progress, training.planned, self.seconds),
            "precision": self.precision,
        }
        return self.learning.made(training, network, common)

    def _epochs_alone(self) -> int:
        """Epochs in which the new part learnt alone: fewer than planned if it got no better for long."""
        return self.recipe.frozen_epochs if self._alone is None else len(self._alone["history"])


def kept_epoch(history: Sequence[Mapping[str, float]], figure: str, *, chosen: bool) -> int | None:
    """The epoch whose weights were kept: of the highest figure, of equals the least loss, the first.

    chosen: whether there were images to choose by; if not, the last was.
    """
    if not chosen:
        return int(history[-1]["epoch"]) if history else None
    finite = [row for row in history if row["loss"] == row["loss"]]
    return int(max(finite, key=lambda row: (row[figure], -row["loss"]))["epoch"]) if finite else None


def _notes(progress: Progress, planned: int, limit: float) -> tuple[str, ...]:
    if not progress.out_of_time:
        return ()
    return (f"The time limit of {limit:g} s ended the training after {progress.steps} of {planned} steps.",)
