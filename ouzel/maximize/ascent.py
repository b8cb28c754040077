"""Activation maximization: the loop. Which image excites a node most?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.checks import within
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.maximize.described import described
from ouzel.maximize.engine.objective import ObjectiveGradients
from ouzel.maximize.evidence import Evidence
from ouzel.maximize.inputs import Inputs
from ouzel.maximize.memory import check_memory
from ouzel.maximize.nodes import Node
from ouzel.maximize.recipes import Recipe, make_recipe
from ouzel.maximize.results import Result, Step, Visualization
from ouzel.maximize.spaces import Space
from ouzel.maximize.statistics import layers_before, statistics_of
from ouzel.maximize.unset import resolved
from ouzel_protos.recipes import MAXIMIZE_DEFAULT

REDIRECTED_STEPS = 16  # as Lucid has it
MOST_IMAGES = 4096
_CHECKED = 50  # steps, at most, after which values that are not finite end a run that nobody watches


def maximize(
    model: models.Model | nn.Module,
    targets: Sequence[Node],
    *,
    recipe: str | Recipe = MAXIMIZE_DEFAULT,
    images_per_target: int = 1,
    size: tuple[int, int] | None = None,
    channels: int = 3,
    seed: int = 0,
    on_step: Callable[[Step], bool | None] | None = None,
    resume: dict[str, Any] | None = None,
    memory_bytes: int | None = None,
    pass_scale: float = 1.0,
    data: Iterable[tuple[str, Tensor]] | None = None,
    data_labels: Mapping[str, str] | None = None,
    judge: models.Model | None = None,
    path: bool = False,
) -> Result:
    """Seek images in [0, 1] that excite the target nodes, all as one batch.

    Args:
        model: A Model, or a module that takes values in [0, 1] as they are, (n, C, H, W).
        targets: The nodes.
        recipe: "pixel", "fourier", "maco", or a recipe with parameters of its own.
        images_per_target: 1 or more; 4096 images in all.
        size: (height, width) in pixels; a Model has its own, a module needs one.
        channels: Of a module's input; a Model has its own.
        seed: Of all that is drawn.
        on_step: Called after every step; True ends the run.
        resume: The state of an earlier run of the same call; it goes on as if it had never stopped.
        memory_bytes: What may be used; None is half of what is free.
        pass_scale: Less than 1 puts fewer rows through the network at a time.
        data: Names and images of photographs, (C, H, W) in [0, 1], to compare with; see `search`. Recipes with
            `statistics` take them from here.
        data_labels: Classes of photographs, by name.
        judge: A second model, to say what it takes the images for; see `independent`.
        path: Whether to tell if the images of classes take the path of photographs through the network; see `path`.
            Needs at least two photographs of each class that is sought, and one of another.

    Raises:
        InvalidArgument: An argument is wrong. All is checked before the first step.
        NotFound: There is no such layer.
        FailedPrecondition: The network does not fit, the memory does not suffice, or a value is not finite.
    """
    chosen = make_recipe(recipe, {}) if isinstance(recipe, str) else recipe
    run = _Run(
        model,
        targets,
        chosen,
        copies=images_per_target,
        size=size,
        channels=channels,
        seed=seed,
        memory_bytes=memory_bytes,
        pass_scale=pass_scale,
        resume=resume,
    )
    if resume is not None:
        run.restore(resume)
    # First, since it is quick and finds out what is wrong with the data.
    evidence = Evidence(
        model, targets, run.inputs, run.readouts, data=data, labels=data_labels or {}, judge=judge, path=path
    )
    run.match(evidence)
    stopped = False
    while run.step < run.recipe.steps and not stopped:
        seen = run.advance()
        stopped = bool(on_step and on_step(seen))
    result = run.result(stopped)
    return replace(result, visualizations=evidence.added(result.visualizations, images_per_target))


class _Run:
    """One run: the images so far, the optimiser, the generator."""

    @models.computing()
    def __init__(
        self,
        model: models.Model | nn.Module,
        targets: Sequence[Node],
        recipe: Recipe,
        *,
        copies: int,
        size: tuple[int, int] | None,
        channels: int,
        seed: int,
        memory_bytes: int | None,
        pass_scale: float,
        resume: Mapping[str, Any] | None,
    ) -> None:
        if not targets:
            raise InvalidArgument("targets: name at least one node", field="targets")
        within("images_per_target", copies, 1, MOST_IMAGES // len(targets))
        self.copies, self.seed = copies, seed
        self.nodes = tuple(targets)
        self.inputs = inputs = Inputs(model, size, channels)
        self.device, shape, self.count = inputs.device, inputs.shape, len(targets) * copies
        self.recipe = recipe = resolved(
            recipe, inputs, self.count, memory_bytes=memory_bytes, pass_scale=pass_scale, state=resume
        )
        network, self.readouts = inputs.open(targets)
        self._matched: tuple[str, ...] = ()
        if recipe.statistics:
            self._matched = layers_before(inputs.network, inputs.example, self.readouts)
            network, _ = inputs.open(targets, self._matched)
        self._seen = seen = recipe.views_per_step or 1
        self._objective = ObjectiveGradients(
            network, self.readouts, copies, inputs.normalised, scale=pass_scale, views=seen
        )
        together = min(self.count * seen, self._objective.rows_per_pass(self.device.type))
        check_memory(inputs.network, inputs.example, together, self.count, memory_bytes, views=seen)
        self._generator = torch.Generator().manual_seed(seed)
        self._space: Space = recipe.space((self.count, *shape), self._generator, self.device)
        self._optimizer = recipe.optimizer(self._space.leaves)
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._work = torch.zeros(self.count, *shape[1:], device=self.device)
        self._history: list[Tensor] = []  # on the device
        self._broken = torch.zeros((), dtype=torch.int64, device=self.device)  # the first step that was not finite
        self.step = 0

    @models.computing()
    def match(self, evidence: Evidence) -> None:
        """Take the statistics of photographs, if the recipe wants some. Raises InvalidArgument if there are none."""
        if not self.recipe.statistics:
            return
        photographs = evidence.of_nodes()
        if not all(photographs):
            raise InvalidArgument(
                "parameters.statistics: needs photographs (data), whose statistics images are to have",
                field="parameters.statistics",
            )
        # Not folded: relevance follows the gradient from the layers that are looked at.
        network, _ = self.inputs.open(self.nodes, self._matched, fold=False)
        self._objective.statistics = statistics_of(
            network,
            self._matched,
            self.readouts,
            photographs,
            weight=self.recipe.statistics,
            relevance=self.recipe.relevance,
        )

    @models.computing()
    def advance(self) -> Step:
        """One step of the optimiser."""
        images = self._space.images()
        seen = self._seen
        views = self.recipe.views(images.repeat_interleave(seen, 0) if seen > 1 else images, self._generator)
        activations, view_gradients = self._objective.gradients(
            views, self.recipe.diversity, redirected=self.step < REDIRECTED_STEPS
        )
        activations = activations.view(self.count, seen).mean(1)
        penalty = self.recipe.penalty(images)
        leaves = [images, *self._space.leaves] if images is not self._space.leaves[0] else self._space.leaves
        # As if the network were part of this graph: its gradient enters where the views come out.
        gradients = torch.autograd.grad(penalty.sum() + (views * view_gradients).sum() / seen, leaves)
        self.step += 1
        self._space.reach(self.step / self.recipe.steps)
        self._note(activations, gradients)
        for leaf, gradient in zip(self._space.leaves, gradients[-len(self._space.leaves) :], strict=True):
            leaf.grad = gradient
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._share()
        self._optimizer.step()
        self._space.project()
        self._history.append(activations)
        if self.step % _CHECKED == 0:
            self._check()
        figures = torch.stack([activations, activations - penalty.detach()])
        return Step(self.step, self.recipe.steps, self._images, self.state, lambda: self._read(figures))

    def _share(self) -> float:
        """Of the rate, at this step."""
        left = 1 - (self.step - 1) / self.recipe.steps
        return min(1.0, left / self.recipe.anneal) if self.recipe.anneal else 1.0

    @models.computing()
    def _images(self) -> Tensor:
        self._check()
        return self._space.images().detach().clone()

    def _note(self, activations: Tensor, gradients: Sequence[Tensor]) -> None:
        """What the gradients have changed, and whether all is finite. The host waits for nothing."""
        work = gradients[0].abs().amax(dim=1)
        self._work += work
        largest = [activations.abs().amax(), work.amax(), *(each.abs().amax() for each in gradients[1:])]
        finite = torch.stack(largest) < math.inf  # which no NaN is
        self._broken = torch.where((self._broken > 0) | finite.all(), self._broken, self.step)

    def _read(self, figures: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
        self._check()
        activations, objectives = figures.tolist()
        return tuple(activations), tuple(objectives)

    def _check(self) -> None:
        if step := int(self._broken):
            raise FailedPrecondition(f"targets: the network's values are not finite at step {step}")

    @models.computing()
    def result(self, stopped: bool) -> Result:
        self._check()
        history = self._told()
        with torch.no_grad():
            images = (self._space.images() * 255).round().clamp(0, 255) / 255
            activations = self._objective.activations(images).tolist()
        visualizations = []
        for row in range(self.count):
            work = self._work[row]
            visualizations.append(
                Visualization(
                    node=self.nodes[row // self.copies],
                    title=self.readouts[row // self.copies].title,
                    image=images[row].detach().float().cpu(),
                    activation=activations[row],
                    history=tuple(step[row] for step in history),
                    transparency=(work / work.max().clamp_min(1e-30)).cpu(),
                )
            )
        return Result(tuple(visualizations), self.recipe, self.seed, self.step, stopped)

    def state(self) -> dict[str, Any]:
        """All that changes from step to step, copied."""
        self._check()
        return {
            "step": self.step,
            "recipe": described(self.recipe),
            "views_per_step": self._seen,
            "leaves": [leaf.detach().cpu().clone() for leaf in self._space.leaves],
            "optimizer": _copied(self._optimizer.state_dict()),
            "generator": self._generator.get_state(),
            "work": self._work.cpu().clone(),
            "history": self._told(),
        }

    def _told(self) -> list[list[float]]:
        return torch.stack(self._history).tolist() if self._history else []

    def restore(self, state: dict[str, Any]) -> None:
        """Raises InvalidArgument for the state of another run."""
        try:
            if state["recipe"] != described(self.recipe):  # its numbers mean other images there
                raise ValueError(f"the recipe is {described(self.recipe)}, and was {state['recipe']}")
            for leaf, saved in zip(self._space.leaves, state["leaves"], strict=True):
                if leaf.shape != saved.shape:
                    raise ValueError(f"{tuple(saved.shape)} instead of {tuple(leaf.shape)}")
                with torch.no_grad():
                    leaf.copy_(saved)
            self._optimizer.load_state_dict(state["optimizer"])
            self._generator.set_state(state["generator"])
            self._work.copy_(state["work"])
            self._history = list(torch.tensor(state["history"], device=self.device))
            self.step = int(state["step"])
            self._space.reach(self.step / self.recipe.steps)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InvalidArgument(f"resume: is not the state of this call ({error})", field="resume") from error


def _copied(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().cpu().clone()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list) else state
