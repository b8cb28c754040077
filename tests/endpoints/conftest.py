"""One small network, and endpoints that serve it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ouzel import models
from ouzel.audit.predictor import ModelPredictor
from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.file import parse
from ouzel.models import archive
from ouzel.models.architectures import build
from ouzel.models.card import Card
from ouzel.models.preprocessing import Preprocessing
from support.endpoints import LABELS, MEAN, STD


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> models.Model:
    """torchvision's SqueezeNet with random weights, whose last layer is loud enough that pictures differ."""
    torch.manual_seed(0)
    network = build("torchvision:squeezenet1_1", num_classes=5, in_channels=3)
    state = network.state_dict()
    state["classifier.1.weight"] *= 40
    preprocessing = Preprocessing(input_size=(64, 64), resize=64, mean=MEAN, std=STD)
    card = Card(name="toy", version="3", arch="torchvision:squeezenet1_1", labels=LABELS, preprocessing=preprocessing)
    return models.load(archive.write(card, state, tmp_path_factory.mktemp("toy") / "toy.mar"))


@pytest.fixture(scope="session")
def predictor(model: models.Model) -> ModelPredictor:
    return ModelPredictor(model)


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """(7, 64, 64, 3) uint8."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 80, (7, 64, 64, 3))
    return (noise + generator.integers(0, 175, (7, 1, 1, 3))).astype(np.uint8)


@pytest.fixture(scope="session")
def expected(predictor: ModelPredictor, pictures: np.ndarray) -> np.ndarray:
    """(7, 5): what the network says of them. The pictures, and the orders of the colours, are told apart."""
    values = predictor(pictures)
    assert values.std(axis=0).max() > 0.05
    assert np.abs(values - predictor(pictures[..., ::-1])).max() > 0.05
    return values


@pytest.fixture(scope="session")
def logits(model: models.Model) -> Callable[[np.ndarray], np.ndarray]:
    """(N, 3, 64, 64) float32, normalised, to (N, 5)."""

    def run(values: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model.network(torch.from_numpy(values.copy())).numpy()

    return run


@pytest.fixture
def endpoint(tmp_path: Path) -> Callable[..., Endpoint]:
    """Reads one endpoint, [toy], from TOML: the size and the labels, and what else is given."""

    def read(url: str, text: str, *, head: str = "", labels: bool = True) -> Endpoint:
        start = f'[toy]\nurl = "{url}"\nsize = [64, 64]\nrequests_per_second = 10000\n{head}\n'
        told = f"labels = {list(LABELS)!r}\n" if labels else ""
        return parse(start + told + text, tmp_path)["toy"]

    return read
