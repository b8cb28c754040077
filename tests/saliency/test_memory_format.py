"""The memory format is measured once, and remembered for the same layers on the same machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ouzel.precision_names import Precision
from ouzel.saliency import Explainer, Saliency
from ouzel.saliency.engine import memory_format

BATCH = torch.rand(2, 3, 8, 8)


def net(width: int = 4, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 36, 5)).eval()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that were measured; each time the other format is found faster."""
    seen: list[nn.Module] = []

    def fake(network: nn.Module, _: torch.Tensor, _precision: str) -> str:
        seen.append(network)
        return ("channels_last", "contiguous")[len(seen) % 2 - 1]

    monkeypatch.setattr(memory_format, "_measured", fake)
    monkeypatch.setattr(memory_format, "_winners", {})
    return seen


def test_it_is_measured_once_for_all_weights_of_the_same_layers(measured: list[nn.Module], tmp_path: Path) -> None:
    for seed, known in enumerate((tmp_path / "known", tmp_path / "known", None, None)):
        if seed == 1:
            memory_format._winners.clear()  # as in another process
        network, form = memory_format.faster_format(net(seed=seed), BATCH, known)
        assert form == torch.channels_last
        assert network[0].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[index]
    assert len(measured) == 1


@pytest.mark.parametrize("other", ["layers", "input", "threads", "dtype", "precision"])
def test_what_changes_the_speed_is_measured_anew(other: str, measured: list[nn.Module], tmp_path: Path) -> None:
    memory_format.faster_format(net(), BATCH, tmp_path)
    threads = torch.get_num_threads()
    network, batch = net(5) if other == "layers" else net(), BATCH[:1] if other == "input" else BATCH
    if other == "dtype":
        network, batch = network.double(), batch.double()
    try:
        if other == "threads":
            torch.set_num_threads(threads + 1)
        precision: Precision = "bf16" if other == "precision" else "exact"
        _, form = memory_format.faster_format(network, batch, tmp_path, precision)
    finally:
        torch.set_num_threads(threads)
    assert (form, len(measured)) == (torch.contiguous_format, 2)


def test_a_place_that_does_not_work_does_no_harm(measured: list[nn.Module], tmp_path: Path) -> None:
    memory_format.faster_format(net(), BATCH, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"\xffnonsense")
    memory_format._winners.clear()
    assert memory_format.faster_format(net(), BATCH, tmp_path)[1] == torch.contiguous_format
    assert file.read_text() == "contiguous\n"
    (tmp_path / "file").write_text("no folder")
    memory_format._winners.clear()
    memory_format.faster_format(net(), BATCH, tmp_path / "file" / "known")
    assert len(measured) == 3


def test_a_slow_network_is_not_measured_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_format, "_BUDGET", 0.0)
    calls: list[int] = []
    monkeypatch.setattr(memory_format, "_seconds", lambda network, x, precision: calls.append(1) or float(len(calls)))
    memory_format._measured(net(), BATCH)
    assert len(calls) == 4  # one round to warm up, and one


def test_maps_are_the_same_whatever_is_remembered(tmp_path: Path) -> None:
    x = torch.rand(2, 3, 8, 8)
    alone = Explainer(net())(x, [Saliency("gradient")])
    for form in ("contiguous", "channels_last"):
        Explainer(net(), known_formats=tmp_path)(x, [Saliency("gradient")])
        for file in tmp_path.iterdir():
            file.write_text(form)
        result = Explainer(net(), known_formats=tmp_path)(x, [Saliency("gradient")])
        torch.testing.assert_close(result.maps[0].values, alone.maps[0].values)
        torch.testing.assert_close(result.logits, alone.logits)
