"""Labels that name one class each: ImageNet calls both a bird and a machine "crane"."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ouzel.audit.predictor import Predictor
from ouzel.audit.source import Source
from ouzel.audit.view import View


def distinct(predictor: Predictor) -> Predictor:
    """The predictor, with labels that are all different: what several classes share gets the index behind it."""
    shared = {label for label, count in Counter(predictor.labels).items() if count > 1}
    if not shared:
        return predictor
    labels = [f"{label} ({n})" if label in shared else label for n, label in enumerate(predictor.labels)]
    return _Relabelled(predictor, tuple(labels))


class _Relabelled:
    def __init__(self, predictor: Predictor, labels: tuple[str, ...]) -> None:
        self._predictor, self.labels = predictor, labels

    @property
    def source(self) -> Source:
        return self._predictor.source

    @property
    def view(self) -> View:
        return self._predictor.view

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        return self._predictor(pictures)
