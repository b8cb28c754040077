"""On real weights and a real photograph, the engine is as close to double precision as plain single precision is.

Single precision decides now and then differently on which side of zero an activation lies; each such decision moves the
gradient by a tenth of a percent or so. Whether one occurs on a given picture is chance, for any order of summation. So
several views of the picture are compared: Grad-CAM, whose gradient meets no rectifier, by the mean square; the others
by the typical deviation of ours against the worst of plain single precision, as eight views are too few for a mean.
"""

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

TIGER_CAT = 282
VIEWS = 8


@pytest.fixture(scope="module")
def x(lite0: models.Model, chelsea: np.ndarray) -> Tensor:
    """(VIEWS, 3, 224, 224): the whole picture, and parts of it."""
    views = [np.ascontiguousarray(chelsea[3 * view :, 5 * view :]) for view in range(VIEWS)]
    return torch.stack([lite0.preprocessing(Image.fromarray(view)) for view in views])


@pytest.fixture(scope="module")
def explainer(lite0: models.Model) -> Explainer:
    return Explainer(lite0)


def plain(network: torch.nn.Module, method: str, row: Tensor) -> Tensor:
    """(C, H, W), or (H, W) for grad_cam, by the slow way in the network's own precision."""
    target = ResolvedTarget(TIGER_CAT)
    if method == "gradient":
        return reference.gradient(network, row, target)
    if method == "guided":
        return reference.guided_gradient(network, row, target)
    return reference.grad_cam(network.forward_features, network.forward_head, row, target)


@pytest.mark.parametrize("method", ["gradient", "guided", "grad_cam"])
def test_deviation_from_double_precision(method: str, lite0: models.Model, explainer: Explainer, x: Tensor) -> None:
    network = copy.deepcopy(lite0.network).double()
    exact = [plain(network, method, row.double()) for row in x]
    eager = [plain(lite0.network, method, row) for row in x]
    e = explainer(x, [Saliency(method, TIGER_CAT, "none")])
    assert int(e.logits[0].argmax()) == TIGER_CAT
    ours, theirs = (
        torch.tensor([reference.deviation(a, b) for a, b in zip(maps, exact, strict=True)])
        for maps in (e.maps[0].values, eager)
    )
    print(f"{method}: L2 deviation of the engine {ours.tolist()}, of plain single precision {theirs.tolist()}")
    assert 0 < theirs.amax() < 0.05
    assert ours.amax() < 0.05
    if method == "grad_cam":
        assert ours.norm() <= 1.5 * theirs.norm()
    else:
        assert ours.median() <= 1.5 * theirs.amax()
