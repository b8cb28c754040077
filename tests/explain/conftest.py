"""A tiny classifier behind the service, quick enough for many cases."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ouzel.explain import ExplainService
from ouzel.models import Model, Preprocessing

LABELS = ("grass", "sheep", "goat", "rock")


@pytest.fixture(scope="session")
def tiny() -> Model:
    torch.manual_seed(7)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, len(LABELS)),
    )
    return Model(
        name="tiny",
        version="3",
        network=network.eval().requires_grad_(False),
        labels=LABELS,
        preprocessing=Preprocessing(
            channels=3,
            input_size=(32, 32),
            resize=36,
            interpolation="bilinear",
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
        ),
        arch="tiny",
        digest="sha256:tiny",
        card={},
    )


@pytest.fixture(scope="session")
def service(tiny: Model) -> ExplainService:
    return ExplainService(tiny)
