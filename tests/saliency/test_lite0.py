"""On real weights and a real photograph, the engine is as close to double precision as plain single precision is."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ouzel import models
from ouzel.saliency import Explainer, ResolvedTarget, Saliency

from . import reference

EGYPTIAN_CAT = 285


@pytest.fixture(scope="module")
def x(lite0: models.Model, chelsea: np.ndarray) -> Tensor:
    return lite0.preprocessing(Image.fromarray(chelsea))[None]


@pytest.fixture(scope="module")
def explainer(lite0: models.Model) -> Explainer:
    return Explainer(lite0)


def plain(network: torch.nn.Module, method: str, row: Tensor) -> Tensor:
    """(C, H, W), or (H, W) for grad_cam, by the slow way in the network's own precision."""
    target = ResolvedTarget(EGYPTIAN_CAT)
    if method == "gradient":
        return reference.gradient(network, row, target)
    if method == "guided":
        return reference.guided_gradient(network, row, target)
    return reference.grad_cam(network.forward_features, network.forward_head, row, target)


@pytest.mark.parametrize("method", ["gradient", "guided", "grad_cam"])
def test_deviation_from_double_precision(method: str, lite0: models.Model, explainer: Explainer, x: Tensor) -> None:
    exact = plain(copy.deepcopy(lite0.network).double(), method, x[0].double())
    eager = plain(lite0.network, method, x[0])
    e = explainer(x, [Saliency(method, reduction="none")])
    assert int(e.logits.argmax()) == EGYPTIAN_CAT
    ours = reference.deviation(e.maps[0].values[0], exact)
    theirs = reference.deviation(eager, exact)
    print(f"{method}: L2 deviation {ours:.2e}, of plain single precision {theirs:.2e}")
    assert 0 < theirs < 0.05
    assert ours <= 1.5 * theirs
