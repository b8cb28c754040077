"""Which device the handler computes on. That torch finds a GPU is made up."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from ouzel import gpus
from ouzel.explain import ExplainService, hosted
from ouzel.models import Model


@pytest.fixture(autouse=True)
def _shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpus.CLAIMS, str(tmp_path))
    monkeypatch.setenv(gpus.VISIBLE, "")
    monkeypatch.setenv(gpus.SHARED, "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_without_gpus_it_is_the_processor() -> None:
    assert hosted.device_of(None) == ("cpu", "")


def test_under_ouzel_up_it_is_the_one_gpu_that_was_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpus.SHARED, "3")
    assert hosted.device_of(None) == ("cuda", "3")
    assert gpus.os.environ[gpus.VISIBLE] == "3"


def test_under_another_torchserve_it_is_the_one_with_its_number() -> None:
    assert hosted.device_of(0) == ("cuda:0", "0")
    assert hosted.device_of(2) == ("cuda:2", "2")


def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hosted.device_of(2) == ("cpu", "2")
    assert "GPU 2 cannot be used" in caplog.text


def test_a_model_that_takes_no_gpu_although_there_are_some_is_told(
    tiny: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As the handler in an archive of an earlier version does not."""
    with caplog.at_level(logging.WARNING):
        ExplainService(tiny)
        assert "processor" not in caplog.text
        monkeypatch.setenv(gpus.SHARED, "0")
        ExplainService(tiny)
    assert "computes on the processor although there are GPUs" in caplog.text
