"""What is explained, as tensors: one linear functional of the logits for each row.

Of a classifier's logits (n, K) it is their weighted sum. Of logits for each pixel, (n, K, H, W), it is the weighted sum
of each class's mean over the row's region.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ouzel import models
from ouzel.saliency.engine.chosen import Chosen


@dataclass(frozen=True, eq=False)
class Functionals:
    """Linear functionals of n rows of logits.

    Attributes:
        weights: (n, K).
        regions: (n, H, W), the share of each pixel, which add up to 1; None where logits have no pixels.
    """

    weights: Tensor
    regions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.weights)

    def of(self, logits: Tensor) -> Tensor:
        """(n,) of (n, K) or (n, K, H, W): logits, or probabilities in their place."""
        if self.regions is None:
            return (logits * self.weights).sum(dim=1)
        return ((logits * self.weights[..., None, None]).sum(dim=1) * self.regions).sum(dim=(1, 2))

    def probabilities(self, logits: Tensor) -> Tensor:
        """The probabilities of the classes, as `of` takes them."""
        return models.probabilities(logits) if self.regions is None else logits.softmax(dim=1)

    @property
    def gradient(self) -> Tensor:
        """Of what `of` gives with respect to the logits, in their shape."""
        if self.regions is None:
            return self.weights
        return self.weights[..., None, None] * self.regions[:, None]

    def rows(self, numbers: Sequence[int], chosen: Chosen) -> Functionals:
        """Of these rows."""
        return self._map(lambda tensor: chosen.rows(tensor, numbers))

    def served(self, numbers: Sequence[int | None], chosen: Chosen) -> Functionals:
        """Of these rows; zero for None."""
        if None not in numbers:
            return self.rows(numbers, chosen)  # type: ignore[arg-type]
        nothing = len(self)
        padded = self._map(lambda tensor: torch.cat([tensor, tensor.new_zeros(1, *tensor.shape[1:])]))
        return padded.rows([nothing if number is None else number for number in numbers], chosen)

    def blocks(self, count: int) -> Functionals:
        """The same rows again and again, so many times."""
        if count == 1:
            return self
        return self._map(lambda tensor: tensor.repeat(count, *[1] * (tensor.ndim - 1)))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Functionals:
        return Functionals(change(self.weights), None if self.regions is None else change(self.regions))
