"""Who is asked: a model of ours, another service, or a function of the caller. They answer with probabilities."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from ouzel import models
from ouzel.audit.source import Source
from ouzel.audit.view import View
from ouzel.errors import FailedPrecondition
from ouzel.precision_names import EXACT
from ouzel.saliency import Explainer
from ouzel.task_names import CLASSIFICATION

# Pictures per forward pass, at most. On a CPU more are slower: glibc takes tensors of more than 32 MiB from the system
# and gives them back each time, so that every page is cleared again.
_BATCH = {"cpu": 4}
_BATCH_ELSEWHERE = 32
_SLACK = 1e-3  # by which probabilities that went through float32 or a few decimals may miss


class Predictor(Protocol):
    """Answers pictures with probabilities."""

    @property
    def source(self) -> Source:
        """Whose predictions these are."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the K classes."""

    @property
    def view(self) -> View:
        """How an image becomes a picture that `__call__` takes."""

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Predict.

        Args:
            pictures: (N, H, W, 3) uint8, as `view` makes them. N is 1 or more.

        Returns:
            (N, K) float64 of probabilities: finite, in [0, 1], each row with a sum of at most 1 (less where a service
            tells only its best classes; those that it leaves out are 0).

        Raises:
            OuzelError: The source does not answer, or its answer cannot be used.
        """


class ModelPredictor:
    """A model of ours.

    Args:
        model: That takes images.
        explainer: Of this model: its prepared network, which is faster and is the one that serves, then answers instead
            of the model's own, in the explainer's precision. `ModelMaps` can share it.

    Attributes:
        precision: That the model computes in; "exact" without an explainer.

    Raises:
        InvalidArgument: The model takes tensors alone.
        FailedPrecondition: The model is no classifier, or has one class only: there is nothing that it could say
            instead.
    """

    def __init__(self, model: models.Model, explainer: Explainer | None = None) -> None:
        model.need(CLASSIFICATION, "audits")
        model.preprocessing.check_takes_images("model")
        if len(model.labels) < 2:
            raise FailedPrecondition(
                f"model: {model.name!r} has one class; an audit needs a class that it could say instead", field="model"
            )
        self._model = model
        self.source = Source("model", model.name, model.version, model.digest)
        self.labels = model.labels
        self.view = View.of(model.preprocessing)
        self._device = next(model.network.parameters()).device
        self._network, self._format = model.network, torch.contiguous_format
        self._batch = _BATCH.get(self._device.type, _BATCH_ELSEWHERE)
        self.precision = EXACT if explainer is None else explainer.precision
        if explainer is not None:
            prepared = explainer.prepare(torch.zeros(model.input_shape))
            self._network, self._format = prepared.network, prepared.memory_format
            self._batch = min(self._batch, prepared.rows_per_pass(()))

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """See `Predictor`."""
        rows = []
        for first in range(0, len(pictures), self._batch):
            x = self.normalised(pictures[first : first + self._batch]).contiguous(memory_format=self._format)
            with models.forward_pass(self.precision, self._device), torch.no_grad():
                rows.append(models.probabilities(self._network(x).double()).cpu().numpy())
        return np.concatenate(rows)

    def normalised(self, pictures: np.ndarray) -> torch.Tensor:
        """(N, H, W, 3) uint8 as the network takes it, on its device."""
        if self._model.preprocessing.channels == 1:
            weights = np.array([299, 587, 114])  # of Pillow's mode L
            pictures = ((pictures.astype(np.int64) @ weights + 500) // 1000).astype(np.uint8)[..., None]
        x = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).to(self._device)
        return self._model.preprocessing.normalised(x)


def check_probabilities(values: np.ndarray, count: int, classes: int, who: str) -> np.ndarray:
    """The answer of a source, if it can be used.

    Args:
        values: As the source gave them.
        count: N, of the pictures that it was shown.
        classes: K.
        who: The source, for the message.

    Returns:
        (N, K) float64.

    Raises:
        FailedPrecondition: Another shape, values that are not finite or not in [0, 1], or rows with a sum above 1.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "fiu" or values.shape != (count, classes):
        raise FailedPrecondition(
            f"{who}: answered {values.dtype} {values.shape}, not probabilities of shape ({count}, {classes})"
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise FailedPrecondition(f"{who}: answered probabilities that are not finite")
    if values.min() < 0 or values.max() > 1 + _SLACK or values.sum(axis=1).max() > 1 + _SLACK:
        raise FailedPrecondition(
            f"{who}: answered values from {values.min():g} to {values.max():g} with a sum of up to "
            f"{values.sum(axis=1).max():g}; probabilities are in 0..1 with a sum of 1; state whether they are logits"
        )
    return values
