"""Whether a model says what was claimed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ouzel.audit.evidence import Agreement, ClassScore


def agreement_of(probabilities: np.ndarray, labels: Sequence[str], claimed: int) -> Agreement:
    """Compares a claim with an answer.

    Args:
        probabilities: (K,), K of 2 or more.
        labels: Of the K classes.
        claimed: Index of the claimed class.

    Returns:
        The agreement. Of classes with the same probability the claimed one comes first.
    """

    def score(index: int) -> ClassScore:
        return ClassScore(index, labels[index], float(probabilities[index]))

    rank = int((probabilities > probabilities[claimed]).sum())
    others = np.where(np.arange(len(probabilities)) == claimed, -1.0, probabilities)
    rival = int(others.argmax())
    return Agreement(score(claimed), score(rival if rank else claimed), score(rival), rank)
