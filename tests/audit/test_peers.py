"""Figures of maps against those of quantus, where the definitions agree. Needs the extra `bench`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ouzel.metrics import deletion, regions

quantus = pytest.importorskip("quantus")

EDGE = 24


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 10 * 10, 5)
        return nn.Sequential(*layers).eval().requires_grad_(False)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("steps", [9, 36])
def test_deletion_is_pixel_flipping(network, seed, steps):
    """PixelFlipping flips values of channels: all channels of a pixel, if as many as divide by them go at a time."""
    x, values = drawn(seed, 3, EDGE, EDGE), drawn(seed + 10, EDGE, EDGE)
    x -= x.mean(dim=(1, 2), keepdim=True)  # the mean colour is then 0, the same in all channels
    flipping = quantus.PixelFlipping(
        features_in_step=x.numel() // steps, normalise=False, perturb_baseline=0.0, disable_warnings=True
    )
    [theirs] = flipping(
        network, x[None].numpy(), np.array([1]), values[None, None].numpy(), channel_first=True, softmax=True
    )
    curve = deletion.curve(network, x, values, 1, "deletion", steps=steps)
    assert curve[1:].tolist() == pytest.approx(theirs, abs=1e-6)
    assert curve.max() - curve.min() > 0.01  # it is no flat curve that agrees
    area = np.trapezoid([float(network(x[None]).softmax(1)[0, 1]), *theirs]) / steps
    assert deletion.area(network, x, values, 1, "deletion", steps=steps) == pytest.approx(area, abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_mass_and_pointing_on_an_object(seed):
    values, mask = drawn(seed, EDGE, EDGE), drawn(seed + 20, EDGE, EDGE) > 0
    given = {
        "model": None,
        "x_batch": np.zeros((1, 3, EDGE, EDGE), np.float32),
        "y_batch": np.array([0]),
        "a_batch": values[None, None].numpy(),
        "s_batch": mask[None, None].numpy(),
        "channel_first": True,
    }
    [share] = quantus.RelevanceMassAccuracy(abs=True, normalise=False, disable_warnings=True)(**given)
    [hit] = quantus.PointingGame(normalise=False, disable_warnings=True)(**given)
    assert regions.energy_inside(values, mask) == pytest.approx(share, abs=1e-6)
    assert regions.pointing_game(values, mask, tolerance=0) == hit
