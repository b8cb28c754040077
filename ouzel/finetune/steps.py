"""Steps of training that the host does not wait for: what went wrong is noted on the device, and read now and then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from ouzel import models
from ouzel.finetune.devices import filled, wants_one_shape
from ouzel.finetune.distributed.group import Group
from ouzel.finetune.distributed.lead import Lead
from ouzel.finetune.distributed.messages import Begin, Share, Turn, shares
from ouzel.finetune.network import logits_of
from ouzel.finetune.recipes import Recipe
from ouzel.finetune.variation import Pixels, Views
from ouzel.precision_names import Precision

Draw = tuple[int, int, int]  # what chance depends on: seed, stage, step


@dataclass(frozen=True)
class Reading:
    """What steps have come to.

    Attributes:
        loss: Of the last step, or of the one that went wrong.
        wrong: Whether the loss or a gradient was not finite. No weight has changed since.
        steps: That went well since the last reading.
    """

    loss: float
    wrong: bool
    steps: int


class Vary(Protocol):
    """What is done to images, see `Variation`."""

    def draw(self, draw: Draw, sizes: np.ndarray, rows: Sequence[int] = ()) -> Views:
        """Views of a batch. rows: the places of its images among those that are learnt from."""

    def __call__(self, pixels: Pixels, views: Views) -> Tensor:
        """(B, C, H, W) float32, normalised; behind the channels of the image there may be some of its labels."""


class Loss(Protocol):
    """What is minimised, where it is not the cross-entropy of the class of an image."""

    def inputs(self, varied: Tensor) -> Tensor:
        """What the network sees of what `Vary` gives."""

    def __call__(self, output: Tensor, varied: Tensor, views: Views | None = None) -> Tensor:
        """(B,) of the network's output for a batch. views: by which it was varied."""


@dataclass
class Stepper:
    """Takes steps of an optimiser.

    Attributes:
        network: To be trained, on its device.
        vary: What is done to the images.
        recipe: How.
        weights: (K,) of the classes, or None.
        micro: Images that go through the network at a time, at most.
        precision: Of the passes.
        one_shape: Whether batches are filled up to one size; None: where the device is better off with that.
        loss: What is minimised; None: the cross-entropy of the classes.
        lead: Of a rank 0, which has others compute parts of each batch; None where there are none.
        group: Of another rank.
    """

    network: nn.Module
    vary: Vary
    recipe: Recipe
    weights: Tensor | None
    micro: int
    precision: Precision
    one_shape: bool | None = None
    loss: Loss | None = None
    lead: Lead | None = None
    group: Group | None = None
    _called: Any = field(default=None, init=False)  # the network, wrapped where there are ranks

    def __post_init__(self) -> None:
        self.device = next(self.network.parameters()).device
        ranks = 1 if self.lead is None else self.lead.ranks
        self.micro = min(self.micro, ceil(self.recipe.batch_size / ranks))
        if self.one_shape is None:
            self.one_shape = wants_one_shape(self.device)
        self.one_shape &= not self.recipe.train_batchnorm  # they would learn from what is filled in
        self._loss = torch.zeros((), device=self.device)
        self._wrong = torch.zeros((), dtype=torch.bool, device=self.device)
        self._steps = torch.zeros((), dtype=torch.int64, device=self.device)

    def begin(
        self,
        optimizer: torch.optim.Optimizer | None = None,
        head: frozenset[str] = frozenset(),
        *,
        all_layers: bool = True,
    ) -> None:
        """To be called before the steps of an epoch: which layers learn, and how, is not changed until the next one.

        Args:
            optimizer: Its state is given to the other ranks.
            head: Names of the head's tensors.
            all_layers: Whether all layers learn, or the head alone.

        Raises:
            RankLost: One of the other ranks did not start.
        """
        group = self.group
        if self.lead is not None and optimizer is not None:
            state, weights = optimizer.state_dict(), self.weights
            rest = (self.vary, self.recipe, weights, self.micro, self.precision, bool(self.one_shape), self.loss)
            self.lead.begin(Begin(self.network, head, all_layers, state, *rest))
            group = self.lead.group
        self.group = group
        if group is not None:
            with nullcontext() if self.lead is None else self.lead.watched():
                self._called = group.wrapped(self.network)

    def take(
        self,
        optimizer: torch.optim.Optimizer,
        pixels: Pixels,
        sizes: np.ndarray,
        classes: Tensor,
        draw: Draw,
        *,
        rows: Sequence[int] = (),
    ) -> None:
        """One step, unless one went wrong before.

        Args:
            optimizer: A fused one of torch's, which skips a step where the device says so.
            pixels: The images, on the device.
            sizes: (B, 2), their heights and widths.
            classes: (B,) int64, on the device.
            draw: What chance depends on.
            rows: The places of the images among those that are learnt from.
        """
        views = self.vary.draw(draw, sizes, rows)
        if self.lead is None:
            count = len(classes)
            self.step(optimizer, Share(pixels, views.to(self.device), classes, draw, count, count))
            return
        parts = shares(pixels, sizes, views, classes, draw, ranks=self.lead.ranks)
        with self.lead.watched():
            self.lead.step(parts, [group["lr"] for group in optimizer.param_groups])
            self.step(optimizer, replace(parts[0], views=parts[0].views.to(self.device)))

    def step(self, optimizer: torch.optim.Optimizer, share: Share) -> None:
        """The part of a step that one process computes, on its device; all of it, where there are no ranks.

        Args:
            optimizer: As that of `take`.
            share: The images.
        """
        optimizer.zero_grad(set_to_none=True)
        summed = torch.zeros((), device=self.device)
        turns = share.turns(self.micro)
        chance = (*share.draw, share.rank) if share.rank else share.draw
        with _chance(chance, self.device), models.computing(self.precision):
            for turn in turns:
                with self._turn(turn, last=turn is turns[-1]):
                    summed += self._pass(share, turn)
        if self.group is not None:
            summed = self.group.summed(summed)
        self._note(optimizer, summed)
        optimizer.step()

    def read(self) -> Reading:
        """Waits for the steps so far."""
        figures = torch.stack([self._loss.double(), self._wrong.double(), self._steps.double()])
        with nullcontext() if self.lead is None else self.lead.watched():
            loss, wrong, steps = figures.tolist()
        self._steps.zero_()
        return Reading(loss, bool(wrong), int(steps))

    def _turn(self, turn: Turn, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if self.group is None else self.group.turn(self._called, turn, last=last)

    def _pass(self, share: Share, turn: Turn) -> Tensor:
        """Adds to the gradients; this process's part of the loss of the batch."""
        some = share.views.part(turn.rows)
        losses = self._losses(self.vary(share.pixels.part(turn.rows), some), share.classes[turn.rows], some)
        loss = (losses if turn.counted else losses * 0.0).sum() / share.batch
        # Of gradients, the mean over the ranks is taken.
        (loss if share.ranks == 1 else loss * share.ranks).backward()
        return loss.detach()

    def _losses(self, varied: Tensor, classes: Tensor, views: Views) -> Tensor:
        x = varied if self.loss is None else self.loss.inputs(varied)
        if self.one_shape:
            x = filled(x, self.micro)
        # bfloat16 has float32's range: no scaling of the loss.
        with models.forward_pass(self.precision, self.device):
            called = self.network if self._called is None else self._called
            logits = logits_of(called(x.contiguous(memory_format=torch.channels_last)))[: len(classes)]
        if self.loss is not None:
            return self.loss(logits.float(), varied, views)
        return F.cross_entropy(
            logits.float(),
            classes,
            self.weights,
            reduction="none",
            label_smoothing=self.recipe.label_smoothing,
        )

    def _note(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """Remembers the loss, and has the optimiser change nothing from the first fault on."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        # The sum of the absolute values; that of the squares overflows for gradients that AdamW still takes.
        fine = loss.isfinite() & get_total_norm(gradients, 1).isfinite()
        self._loss = torch.where(self._wrong, self._loss, loss)
        self._wrong = self._wrong | ~fine
        self._steps += ~self._wrong
        optimizer.found_inf = self._wrong.float()  # type: ignore[attr-defined] # as torch.amp.GradScaler does


@contextmanager
def _chance(draw: Sequence[int], device: torch.device) -> Iterator[None]:
    """Seed torch's generators, within, for what the network draws; they are left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence(draw).generate_state(1, np.uint64)[0]))
        yield
