"""A search: trials one after the other, each a training that may be stopped early.

Four parts of the images keep choices apart. Trials learn from a part of the training images and are compared on the
rest of these. The training with the best values then learns from both, its epoch is chosen by the validation images,
and its figures come from those that are held out. No trial is judged by the last two.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.finetune import data as data_module
from ouzel.finetune.data import Example
from ouzel.finetune.distributed.lead import Launcher
from ouzel.finetune.distributed.processes import local
from ouzel.finetune.events import Event, OnEvent
from ouzel.finetune.finetune import finetune
from ouzel.finetune.recipes import Recipe, make_recipe
from ouzel.finetune.resumed import origin, resumed
from ouzel.finetune.search.results import COMPLETE, DIVERGED, PRUNED, Found, Trial
from ouzel.finetune.search.study import Study, rank
from ouzel.finetune.task import Diverged
from ouzel.models import Model
from ouzel.precision_names import EXACT, Precision
from ouzel_protos.recipes import FINETUNE, FINETUNE_DEFAULT
from ouzel_protos.search import TRIALS_DEFAULT, BadSearch, Searched, check, space_of

_OF_HEADS = ("balance", "flip")  # what the logistic regression depends on
OnTrial = Callable[[Trial], None]


class _Stopped(Exception):
    """A trial is worse than others after as many epochs."""


def search(
    base: Model,
    data: Sequence[Example],
    recipe: Recipe | str = FINETUNE_DEFAULT,
    space: Mapping[str, Searched | tuple | list] = {},
    *,
    trials: int = TRIALS_DEFAULT,
    seed: int = 0,
    image_size: int = 0,
    cache: str | Path | None = None,
    on_event: OnEvent = lambda event: None,
    on_trial: OnTrial = lambda trial: None,
    finished: Sequence[Trial] = (),
    resume: Mapping[str, Any] | None = None,
    batch_scale: float = 1.0,
    precision: Precision = EXACT,
    workers: int = 1,
    launcher: Launcher = local,
) -> Found:
    """Find values of hyper-parameters with which a training gets good.

    The first trial has the recipe's own values, if the space has them. A trial goes on after 1, 3, 9, ... epochs only
    if it is in the best third of those that got as far (asynchronous successive halving).

    Args:
        base: What is tuned.
        data: The images.
        recipe: Or its name: "fine_tune", "lp_ft" or "scratch".
        space: What is searched: by parameter, (low, high), (low, high, "log") or a list of values.
        trials: How many, 1 to 256.
        seed: Of the split, of what is tried, and of each training.
        image_size: As of `finetune`, like cache, batch_scale, precision, workers and launcher.
        cache: See there.
        on_event: Hears how each trial goes, and may raise to end the search.
        on_trial: Hears of each trial twice: when it begins, without an outcome, and when it has ended.
        finished: The trials of an earlier call with the same arguments, in order.
        resume: The state of an event of the trial after these.
        batch_scale: See image_size.
        precision: See image_size.
        workers: See image_size.
        launcher: See image_size.

    Raises:
        InvalidArgument: The space, the trials or an argument of `finetune` is wrong, or there are too few images.
        FailedPrecondition: The loss of all trials was not finite, or optuna is not installed.
    """
    recipe = make_recipe(recipe, {}) if isinstance(recipe, str) else recipe
    try:
        searched = space_of(space)
        check(recipe.name, searched, trials)
    except BadSearch as error:
        raise InvalidArgument(str(error), field=error.field) from None
    parts, learnt, compared = _parts(data, recipe, seed)
    study, done = Study(searched, recipe, seed, finished), list(finished)
    head: Mapping[str, Any] | None = None
    shares_head = not any(name in searched for name in _OF_HEADS)

    def heard(event: Event) -> None:
        nonlocal head
        if event.phase == "head" and event.state is not None and shares_head:
            state = event.state()
            head = {"elapsed": 0.0, "head": state["head"]}
        on_event(event)

    while len(done) < trials:
        trial = study.ask()
        on_trial(trial)
        by = make_recipe(recipe.name, {**_given(recipe), **trial.parameters})
        resume = resumed(resume, base, by)
        running = _Running(study, trial, compared)
        running.replay(resume)
        try:
            finetune(
                base,
                parts,
                by,
                seed=seed,
                image_size=image_size,
                cache=cache,
                on_event=heard,
                resume=resume or (head and {**origin(base, by), **head}),
                batch_scale=batch_scale,
                precision=precision,
                workers=workers,
                launcher=launcher,
                on_epoch=running.on_epoch,
            )
            outcome, reason = COMPLETE, ""
        except _Stopped:
            outcome, reason = PRUNED, running.why()
        except Diverged as error:
            outcome, reason = DIVERGED, str(error)
        resume = None
        done.append(study.tell(running.ended(outcome, reason)))
        on_trial(done[-1])
    rated = [each for each in done if each.reports and each.outcome != DIVERGED]
    if not rated:
        raise FailedPrecondition(
            f"search: the loss of all {len(done)} trials was not finite; lower values of learning_rate may help",
            field="search",
        )
    best = max(rated, key=lambda each: (each.value, -each.number))
    chosen = make_recipe(recipe.name, {**_given(recipe), **best.parameters})
    return Found(chosen, searched, tuple(done), best, seed, learnt, compared)


class _Running:
    """A trial while it learns."""

    def __init__(self, study: Study, trial: Trial, images: int) -> None:
        self._study, self._trial, self._images = study, trial, images
        self._reports: dict[int, float] = {}
        self._best: tuple[float, float] | None = None  # accuracy and loss

    def replay(self, state: Mapping[str, Any] | None) -> None:
        """Notes the epochs of an attempt before this one."""
        if state is not None and state.get("training"):
            for row in state["training"]["progress"]["history"]:
                self._note(row)

    def on_epoch(self, row: Mapping[str, float]) -> None:
        """Raises _Stopped if that was enough."""
        if self._note(row):
            raise _Stopped

    def why(self) -> str:
        """Why it was stopped."""
        return f"not in the best third of the trials after {len(self._reports)} epochs, at {self._best_text()}"

    def ended(self, outcome: str, reason: str) -> Trial:
        score, loss = self._best or (None, None)
        return dataclasses.replace(
            self._trial,
            outcome=outcome,
            reason=reason,
            score=score,
            loss=loss,
            epochs=len(self._reports),
            reports=self._reports,
        )

    def _note(self, row: Mapping[str, float]) -> bool:
        accuracy, loss = row["accuracy"], row["loss"]
        if math.isfinite(loss) and (self._best is None or (accuracy, -loss) > (self._best[0], -self._best[1])):
            self._best = accuracy, loss
        value = rank(*self._best, self._images) if self._best else 0.0
        self._reports[int(row["epoch"])] = value
        return self._study.report(int(row["epoch"]), value)

    def _best_text(self) -> str:
        return "no finite loss" if self._best is None else f"{100 * self._best[0]:.1f} %"


def _parts(data: Sequence[Example], recipe: Recipe, seed: int) -> tuple[list[Example], int, int]:
    """The images of trials, each with what it is for, and how many are learnt from and compared on.

    The validation images stand where a training wants images for its figures, which nobody looks at.
    """
    parts = data_module.split(data, recipe, seed)
    compared, learnt = data_module.part(parts.train, recipe.validation, seed + 2)
    if not compared or len({each.label for each in learnt}) < 2:
        raise InvalidArgument(
            f"data: {len(parts.train)} training images are too few to compare trials on a part of them; a class needs "
            "two that are no copies of each other",
            field="data",
        )
    named = (("train", learnt), ("validation", compared), ("test", parts.validation))
    return (
        [dataclasses.replace(each, split=name) for name, examples in named for each in examples],
        len(learnt),
        len(compared),
    )


def _given(recipe: Recipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in FINETUNE[recipe.name]}
