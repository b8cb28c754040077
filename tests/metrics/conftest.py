"""A network that is known through and through, and pictures for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn


class Linear(nn.Module):
    """Logit k of an image is the sum over pixels of weight[k] * x; a convolution of the picture's whole size."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.conv = nn.Conv2d(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), bias=False)
        self.conv.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).flatten(1)


@pytest.fixture
def weight() -> torch.Tensor:
    """(2 classes, 3, 12, 10)."""
    return torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.fixture
def linear(weight: torch.Tensor) -> nn.Module:
    return Linear(weight).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
