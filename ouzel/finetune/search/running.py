"""A trial while it learns: what it has come to, and whether that is enough to go on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ouzel.finetune.search.results import PRUNED, Trial
from ouzel.finetune.search.study import Study, rank


class Running:
    """A trial while it learns.

    Args:
        study: That it is of.
        trial: As it began.
        images: How many it is compared on.
    """

    def __init__(self, study: Study, trial: Trial, images: int) -> None:
        self.trial = trial
        self._study, self._images = study, images
        self._reports: dict[int, float] = {}
        self._best: tuple[float, float] | None = None  # accuracy and loss

    def replay(self, state: Mapping[str, Any] | None) -> None:
        """Notes the epochs of an attempt before this one."""
        if state is not None and state.get("training"):
            for row in state["training"]["progress"]["history"]:
                self.note(row)

    def note(self, row: Mapping[str, float]) -> bool:
        """Notes an epoch; returns whether the trial is to end, since others were better after as many."""
        accuracy, loss = row["accuracy"], row["loss"]
        if math.isfinite(loss) and (self._best is None or (accuracy, -loss) > (self._best[0], -self._best[1])):
            self._best = accuracy, loss
        value = rank(*self._best, self._images) if self._best else 0.0
        self._reports[int(row["epoch"])] = value
        return self._study.report(self.trial, int(row["epoch"]), value)

    def end(self, outcome: str, reason: str = "") -> Trial:
        """Tells the study how it has ended.

        Args:
            outcome: COMPLETE, PRUNED or DIVERGED.
            reason: Why, where it diverged.
        """
        if outcome == PRUNED:
            reason = f"not in the best third of the trials after {len(self._reports)} epochs, at {self._best_text()}"
        score, loss = self._best or (None, None)
        return self._study.tell(
            dataclasses.replace(
                self.trial,
                outcome=outcome,
                reason=reason,
                score=score,
                loss=loss,
                epochs=len(self._reports),
                reports=self._reports,
            )
        )

    def _best_text(self) -> str:
        return "no finite loss" if self._best is None else f"{100 * self._best[0]:.1f} %"
