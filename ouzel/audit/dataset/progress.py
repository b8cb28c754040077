"""Where an audit of a data set stands: what it tells, and all that it must know to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import torch

from ouzel.audit.dataset.image import GRID, Kept
from ouzel.audit.dataset.label_errors import Answer
from ouzel.audit.dataset.rows import ImageRow
from ouzel.errors import FailedPrecondition

# "registered": nothing was asked yet. "pool": images are read to take backgrounds and objects from. "images": rows are
# made. "clusters": clusters are tested. "suspects": the images that are shown are audited once more, with pictures.
Phase = Literal["registered", "pool", "images", "clusters", "suspects"]


@dataclass(frozen=True)
class Event:
    """What an audit tells.

    Attributes:
        phase: What is being done.
        step: 0, 1, ... of `steps`.
        steps: 0 while unknown.
        state: Makes the state that `resume` takes: values of JSON's types and tensors.
    """

    phase: Phase
    step: int
    steps: int
    state: Callable[[], dict[str, Any]] = field(repr=False)


OnEvent = Callable[[Event], None]


class Stopped(Exception):
    """The audit was to stop.

    Attributes:
        state: That `resume` takes.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__("the audit was stopped")
        self.state = state


@dataclass
class Progress:
    """What has been found so far.

    Attributes:
        design: SHA-256 of the design.
        examples: SHA-256 of the examples.
        kept: Of each image, in order.
    """

    design: str
    examples: str
    kept: list[Kept] = field(default_factory=list)

    @property
    def rows(self) -> tuple[ImageRow, ...]:
        """The rows so far."""
        return tuple(each.row for each in self.kept)

    def state(self) -> dict[str, Any]:
        """As values of JSON's types, and one tensor."""
        maps = [each.map for each in self.kept if each.map is not None]
        return {
            "design": self.design,
            "examples": self.examples,
            "rows": [each.row.to_dict() for each in self.kept],
            "mapped": [number for number, each in enumerate(self.kept) if each.map is not None],
            "maps": torch.from_numpy(np.array(maps, dtype=np.float16).reshape(-1, GRID, GRID)),
            "answers": [
                [number, list(each.answer.classes), list(each.answer.probabilities)]
                for number, each in enumerate(self.kept)
                if each.answer is not None
            ],
        }

    @classmethod
    def of(cls, design: str, examples: str, state: Mapping[str, Any] | None) -> Self:
        """Goes on from a state, or begins.

        Args:
            design: SHA-256 of the design.
            examples: SHA-256 of the examples.
            state: As `state` made it, or None.

        Raises:
            FailedPrecondition: The state is of another design or of other examples.
        """
        if state is None:
            return cls(design, examples)
        for name, own in (("design", design), ("examples", examples)):
            if state[name] != own:
                raise FailedPrecondition(
                    f"resume: the state is of another {name} ({state[name]:.12}, not {own:.12}); a verdict needs one "
                    "that is fixed beforehand",
                    field="resume",
                )
        maps = dict(zip(state["mapped"], state["maps"].numpy(), strict=True))
        answers = {number: Answer(tuple(classes), tuple(values)) for number, classes, values in state["answers"]}
        rows = [ImageRow.from_dict(each) for each in state["rows"]]
        kept = [Kept(row, maps.get(number), answers.get(number)) for number, row in enumerate(rows)]
        return cls(design, examples, kept)


class Teller:
    """Tells events, and stops when that is wanted.

    Args:
        progress: Whose state is told.
        on_event: Who is told.
        stop: Whether to stop; asked at every event.
    """

    def __init__(self, progress: Progress, on_event: OnEvent | None, stop: Callable[[], bool] | None) -> None:
        self._progress, self._on_event, self._stop = progress, on_event, stop

    def __call__(self, phase: Phase, step: int, steps: int = 0) -> None:
        """Tells an event. Raises Stopped."""
        if self._on_event is not None:
            self._on_event(Event(phase, step, steps, self._progress.state))
        if self._stop is not None and self._stop():
            raise Stopped(self._progress.state())
