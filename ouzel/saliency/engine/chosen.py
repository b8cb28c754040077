"""Rows of tensors by number, with each list of numbers sent to the device once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ouzel.saliency.transfer import sent


class Chosen:
    """Picks rows of tensors by lists of numbers, each of which is sent to the device once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sent: dict[tuple[int, ...], Tensor] = {}

    def numbers(self, numbers: Sequence[int]) -> Tensor:
        """(n,) integers on the device."""
        key = tuple(numbers)
        if key not in self._sent:
            self._sent[key] = sent(key, self._device, torch.int64)
        return self._sent[key]

    def rows(self, tensor: Tensor, numbers: Sequence[int]) -> Tensor:
        """(n, ...) these rows; the tensor itself, or a part of it, where they follow each other."""
        first = numbers[0]
        if list(numbers) == list(range(first, first + len(numbers))):
            return tensor if len(numbers) == len(tensor) else tensor[first : first + len(numbers)]
        return tensor.index_select(0, self.numbers(numbers))
