"""Digits that come with a package, and small networks that have learnt them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from support.digits import digits as mnist


class DigitsCnn(nn.Module):
    """The lecture's kind of network: four layers, two of them convolutions, for 28 x 28 grey values in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3)
        self.conv2 = nn.Conv2d(16, 32, 3)
        self.fc1 = nn.Linear(32 * 12 * 12, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


@pytest.fixture(scope="session")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """5,000 digits of MNIST: (5000, 1, 28, 28) in [0, 1], and their classes."""
    images, classes = mnist()
    return torch.tensor(images / 255, dtype=torch.float32).reshape(-1, 1, 28, 28), torch.tensor(classes)


def trained(seed: int, digits: tuple[torch.Tensor, torch.Tensor]) -> nn.Module:
    torch.manual_seed(seed)
    network = DigitsCnn()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    images, classes = digits
    for _ in range(3):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(network(images[rows]), classes[rows]).backward()
            optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def cnn(digits) -> nn.Module:
    return trained(0, digits)


@pytest.fixture(scope="session")
def other_cnn(digits) -> nn.Module:
    return trained(1, digits)
