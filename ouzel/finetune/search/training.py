"""The training of a trial: how it ends, and what those after it have of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ouzel.finetune.data import Example
from ouzel.finetune.events import Event, OnEvent
from ouzel.finetune.finetune import finetune
from ouzel.finetune.recipes import Recipe
from ouzel.finetune.resumed import origin
from ouzel.finetune.search.results import COMPLETE, DIVERGED, PRUNED
from ouzel.finetune.task import Diverged
from ouzel.models import Model


class _Stopped(Exception):
    """Ends a training without a result."""


class Trainings:
    """Trainings of one base on the same images, one after the other.

    Args:
        base: What is tuned.
        examples: The images.
        shares_head: Whether the logistic regression of the first one is that of all.
        options: Of `finetune`, for all of them.
    """

    def __init__(self, base: Model, examples: Sequence[Example], *, shares_head: bool, **options: Any) -> None:
        self._base, self._examples, self._shares_head, self._options = base, examples, shares_head, options
        self._head: Mapping[str, Any] | None = None

    def run(
        self,
        recipe: Recipe,
        *,
        on_event: OnEvent,
        on_epoch: Callable[[Mapping[str, float]], bool],
        resume: Mapping[str, Any] | None = None,
    ) -> tuple[str, str]:
        """Trains.

        Args:
            recipe: With the values of the trial.
            on_event: As of `finetune`.
            on_epoch: Hears the figures of each epoch, and says whether the trial is to end.
            resume: As of `finetune`.

        Returns:
            How the trial has ended, and why if it diverged.
        """

        def heard(event: Event) -> None:
            if self._shares_head and event.phase == "head" and event.state is not None:
                self._head = {"elapsed": 0.0, "head": event.state()["head"]}
            on_event(event)

        def ended(row: Mapping[str, float]) -> None:
            if on_epoch(row):
                raise _Stopped

        state = resume or (self._head and {**origin(self._base, recipe), **self._head})
        try:
            finetune(
                self._base, self._examples, recipe, on_event=heard, on_epoch=ended, resume=state, **self._options
            )  # fmt: skip
        except _Stopped:
            return PRUNED, ""
        except Diverged as error:
            return DIVERGED, str(error)
        return COMPLETE, ""
