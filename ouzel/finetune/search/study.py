"""Which values are tried, and which trials are stopped: optuna's sampler and its successive halving.

What a trial tries depends on the seed, its number, and the trials before it alone: what they came to, and what those
try that run beside it. So a search with one trial at a time, which was interrupted, tries what it would have tried.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ouzel.errors import FailedPrecondition
from ouzel.finetune.recipes import Recipe
from ouzel.finetune.search.results import COMPLETE, Trial
from ouzel_protos.recipes import FINETUNE
from ouzel_protos.search import Choices, Interval, Searched, Space

_FACTOR = 3  # one of so many trials goes on at each rung: after 1, 3, 9, ... epochs. Reasons say "third"
_FIRST = 5  # trials of chance, before what was tried says where to look


class Study:
    """The trials of one search.

    Args:
        space: What is searched.
        recipe: Whose own values are tried first, if the space has them.
        seed: Of what is tried.
        finished: Trials of an earlier attempt, in the order in which they ended.
        begun: Trials that were under way then; `again` begins them.

    Raises:
        FailedPrecondition: optuna is not installed.

    References:
        Li et al. 2020, "A system for massively parallel hyperparameter tuning", arXiv 1810.05934 (ASHA).
        Bergstra et al. 2011, "Algorithms for hyper-parameter optimization" (TPE).
    """

    def __init__(
        self, space: Space, recipe: Recipe, seed: int, finished: Sequence[Trial] = (), begun: Sequence[Trial] = ()
    ) -> None:
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise FailedPrecondition(
                f"search: needs {error.name}; run `pip install 'ouzel[search]'`", field="search"
            ) from error
        optuna.logging.disable_default_handler()  # a library prints nothing
        optuna.logging.enable_propagation()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._seed, self._recipe = optuna, seed, recipe
        limits = FINETUNE[recipe.name]
        self._distributions = {name: _distribution(each, limits[name].kind is int) for name, each in space.items()}
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=_FACTOR)
        self._study = optuna.create_study(direction="maximize", pruner=pruner)
        for each in finished:
            self._study.add_trial(self._frozen(each))
        self._count = len(finished) + len(begun)
        self._running: dict[int, Any] = {}

    def ask(self) -> Trial:
        """The next trial, which has not begun."""
        self._count += 1
        chance = int(np.random.SeedSequence([self._seed % 2**64, self._count]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            # constant_liar: what runs beside it counts as bad, so that it is not tried twice.
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=chance, n_startup_trials=_FIRST, constant_liar=True
            )
        own = {name: getattr(self._recipe, name) for name in self._distributions}
        if self._count == 1 and all(self._has(name, value) for name, value in own.items()):
            self._study.enqueue_trial(own)
        running = self._running[self._count] = self._study.ask(self._distributions)
        return Trial(self._count, _plain(running.params))

    def again(self, trial: Trial) -> Trial:
        """A trial that was under way, from its beginning, with its number and values."""
        self._study.enqueue_trial(dict(trial.parameters))
        self._running[trial.number] = self._study.ask(self._distributions)
        return Trial(trial.number, dict(trial.parameters))

    def report(self, trial: Trial, epoch: int, value: float) -> bool:
        """Whether the trial is to end, since others were better after as many epochs."""
        running = self._running[trial.number]
        running.report(value, epoch)
        return bool(running.should_prune())

    def tell(self, trial: Trial) -> Trial:
        """Notes how the trial has ended, and returns it with the marks of the rule."""
        states = self._optuna.trial.TrialState
        complete = trial.outcome == COMPLETE
        frozen = self._study.tell(
            self._running.pop(trial.number),
            trial.value if complete else None,
            state=states.COMPLETE if complete else states.PRUNED,
        )
        return replace(trial, marks=dict(frozen.system_attrs))

    def _has(self, name: str, value: Any) -> bool:
        distribution = self._distributions[name]
        if isinstance(distribution, self._optuna.distributions.CategoricalDistribution):
            return value in distribution.choices
        return bool(distribution.low <= value <= distribution.high)

    def _frozen(self, trial: Trial) -> Any:
        states = self._optuna.trial.TrialState
        complete = trial.outcome == COMPLETE
        return self._optuna.trial.create_trial(
            state=states.COMPLETE if complete else states.PRUNED,
            value=trial.value if complete else None,
            params=dict(trial.parameters),
            distributions=self._distributions,
            intermediate_values=dict(trial.reports),
            system_attrs=dict(trial.marks),
        )


def _distribution(searched: Searched, whole: bool) -> Any:
    from optuna import distributions

    if isinstance(searched, Choices):
        return distributions.CategoricalDistribution(list(searched.values))
    assert isinstance(searched, Interval)
    if whole:
        return distributions.IntDistribution(int(searched.low), int(searched.high), log=searched.log)
    return distributions.FloatDistribution(float(searched.low), float(searched.high), log=searched.log)


def rank(accuracy: float, loss: float, images: int) -> float:
    """What trials are ranked by: the accuracy, and of equal ones the loss, which counts less than one image does."""
    return accuracy + 1 / ((1 + max(loss, 0.0)) * (images + 1))


def _plain(parameters: Mapping[str, Any]) -> dict[str, float | bool]:
    """Values of JSON's types."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in parameters.items()}
