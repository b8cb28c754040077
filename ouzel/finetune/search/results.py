"""What a search has tried, and what it has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ouzel.finetune.recipes import Recipe
from ouzel_protos.search import Space

COMPLETE, PRUNED, DIVERGED = "complete", "pruned", "diverged"


@dataclass(frozen=True)
class Trial:
    """One training with some values of what is searched.

    Attributes:
        number: From 1 on.
        parameters: The values, by name.
        outcome: COMPLETE, PRUNED or DIVERGED; "" of one that has only begun.
        score: Accuracy at its best epoch, on the images that trials are compared on; None before an epoch has ended.
        loss: Mean cross entropy there, in nats.
        epochs: That it has learnt for.
        reason: Why it was stopped, in words; "" if it was not.
        reports: What it is ranked by after each epoch: by its number, the larger the better.
        marks: What the stopping rule has noted of it.
    """

    number: int
    parameters: Mapping[str, float | bool]
    outcome: str = ""
    score: float | None = None
    loss: float | None = None
    epochs: int = 0
    reason: str = ""
    reports: Mapping[int, float] = field(default_factory=dict)
    marks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """What it is ranked by; less than that of all others before an epoch has ended."""
        return max(self.reports.values(), default=float("-inf"))

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON, but for the keys of `reports`."""
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trial:
        """The reverse of `to_dict`."""
        return cls(**values)


@dataclass(frozen=True)
class Found:
    """What came of a search.

    Attributes:
        recipe: With the best values.
        space: That was searched.
        trials: All of them, in order.
        best: The one whose values are in `recipe`.
        seed: Of the split and of what was tried.
        learnt: How many images the trials have learnt from.
        compared: How many images they were compared on.
    """

    recipe: Recipe
    space: Space
    trials: Sequence[Trial]
    best: Trial
    seed: int
    learnt: int
    compared: int

    def summary(self) -> dict[str, Any]:
        """For programs, of JSON's types: without the trials."""
        counts = {each: sum(trial.outcome == each for trial in self.trials) for each in (COMPLETE, PRUNED, DIVERGED)}
        best = {"number": self.best.number, "parameters": dict(self.best.parameters), "score": self.best.score}
        images = {"train_images": self.learnt, "compared_images": self.compared}
        space = {
            name: {key: list(value) if isinstance(value, tuple) else value for key, value in vars(each).items()}
            for name, each in self.space.items()
        }
        return {"space": space, "trials": len(self.trials), **counts, "best": best, **images}

    def table(self) -> list[dict[str, Any]]:
        """A row for each trial, of JSON's types."""
        names = ("number", "outcome", "score", "loss", "epochs", "reason")
        return [
            {**{name: getattr(each, name) for name in names}, "parameters": dict(each.parameters)}
            for each in self.trials
        ]
