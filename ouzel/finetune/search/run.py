"""A search: trials, each a training that may be stopped early; one after the other, or several beside each other.

Four parts of the images keep choices apart. Trials learn from a part of the training images and are compared on the
rest of these. The training with the best values then learns from both, its epoch is chosen by the validation images,
and its figures come from those that are held out. No trial is judged by the last two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.finetune import data as data_module
from ouzel.finetune.data import Example
from ouzel.finetune.events import OnEvent
from ouzel.finetune.recipes import Recipe, make_recipe
from ouzel.finetune.resumed import resumed
from ouzel.finetune.search.messages import Setup, parcel, without_files
from ouzel.finetune.search.parallel import Beside, missing
from ouzel.finetune.search.processes import LocalWorkers, Starter
from ouzel.finetune.search.results import DIVERGED, Found, Trial
from ouzel.finetune.search.running import Running
from ouzel.finetune.search.study import Study
from ouzel.finetune.search.training import Trainings
from ouzel.models import Model
from ouzel.precision_names import EXACT, Precision
from ouzel_protos.recipes import FINETUNE, FINETUNE_DEFAULT, WORKERS
from ouzel_protos.search import TRIALS_DEFAULT, BadSearch, Searched, check, space_of

_OF_HEADS = ("balance", "flip")  # what the logistic regression depends on
OnTrial = Callable[[Trial], None]


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
    starter: Starter = LocalWorkers,
    begun: Sequence[Trial] = (),
    on_wait: Callable[[], None] = lambda: None,
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
        image_size: As of `finetune`, like cache, batch_scale and precision.
        cache: See there.
        on_event: Hears how each trial goes, and may raise to end the search.
        on_trial: Hears of each trial twice: when it begins, without an outcome, and when it has ended.
        finished: The trials of an earlier call with the same arguments, in the order in which they ended.
        resume: The state of an event of the trial after these; with one worker.
        batch_scale: See image_size.
        precision: See image_size.
        workers: How many trials run at a time, each in a process of its own. With one, they run in this process. What
            a trial comes to with its values does not depend on it; which trials are tried and stopped does.
        starter: Starts these processes; on this machine by default. `on_event` hears of the oldest trial alone then,
            without its state, and each process keeps the features that it has computed, not `cache`.
        begun: Trials that `on_trial` was told in an earlier call. Those that are not in `finished` begin again; with
            several workers.
        on_wait: With several workers: called several times a second, and may raise to end the search.

    Raises:
        RankLost: A worker was lost. The finished trials can be gone on from.
        InvalidArgument: The space, the trials or an argument of `finetune` is wrong, or there are too few images.
        FailedPrecondition: The loss of all trials was not finite, or optuna is not installed.
    """
    recipe = make_recipe(recipe, {}) if isinstance(recipe, str) else recipe
    try:
        searched = space_of(space)
        check(recipe.name, searched, trials)
    except BadSearch as error:
        raise InvalidArgument(str(error), field=error.field) from None
    if problem := WORKERS.problem(workers):
        raise InvalidArgument(f"workers: {problem}", field="workers")
    parts, learnt, compared = _parts(data, recipe, seed)
    shares_head = not any(name in searched for name in _OF_HEADS)

    def recipe_of(trial: Trial) -> Recipe:
        return make_recipe(recipe.name, {**_given(recipe), **trial.parameters})

    if workers == 1:
        study, done = Study(searched, recipe, seed, finished), list(finished)
        trainings = Trainings(
            base, parts, shares_head=shares_head, seed=seed, image_size=image_size, cache=cache,
            batch_scale=batch_scale, precision=precision,
        )  # fmt: skip
        while len(done) < trials:
            running = Running(study, study.ask(), compared)
            on_trial(running.trial)
            by = recipe_of(running.trial)
            resume = resumed(resume, base, by)
            running.replay(resume)
            ended = trainings.run(by, on_event=on_event, on_epoch=running.note, resume=resume)
            resume = None
            done.append(running.end(*ended))
            on_trial(done[-1])
    else:
        left = missing(begun, finished)
        study = Study(searched, recipe, seed, finished, left)
        bare, network = parcel(base)
        threads, shown = torch.get_num_threads(), without_files(parts)
        gpu = next(base.network.parameters()).device.type == "cuda"
        setup = Setup(bare, network, shown, seed, image_size, batch_scale, precision, shares_head, threads, gpu)
        beside = Beside(
            setup, parts, recipe_of, compared, study, done=finished, begun=left,
            on_event=on_event, on_trial=on_trial, on_wait=on_wait,
        )  # fmt: skip
        done = beside.run(trials, starter, workers)
    rated = [each for each in done if each.reports and each.outcome != DIVERGED]
    if not rated:
        raise FailedPrecondition(
            f"search: the loss of all {len(done)} trials was not finite; lower values of learning_rate may help",
            field="search",
        )
    best = max(rated, key=lambda each: (each.value, -each.number))
    chosen = make_recipe(recipe.name, {**_given(recipe), **best.parameters})
    ordered = tuple(sorted(done, key=lambda each: each.number))
    return Found(chosen, searched, ordered, best, seed, learnt, compared)


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
