"""A node that is read off a convolution's input is the node that is read off its output."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ouzel.maximize import Channel, Direction, Unit
from ouzel.maximize.engine.objective import ObjectiveGradients
from ouzel.maximize.engine.truncated import Truncated
from ouzel.maximize.inputs import Inputs
from ouzel.maximize.nodes import Node


def network(batch_norm: bool, **convolution: object) -> nn.Sequential:
    torch.manual_seed(1)
    last = nn.Conv2d(6, 5, 3, **convolution)  # type: ignore[arg-type]
    normed = nn.BatchNorm2d(5)
    with torch.no_grad():
        for each in (normed.running_mean, normed.running_var, normed.weight, normed.bias):
            assert each is not None
            each.copy_(torch.rand(5) + 0.5)
        normed.weight[2] = 0.0  # of a channel that the BatchNorm silences
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), last, *([normed] if batch_norm else []), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers).eval()


def pulled(net: nn.Module, nodes: list[Node], images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    inputs = Inputs(net, (12, 14), 3)
    opened, readouts = inputs.open(nodes)
    objective = ObjectiveGradients(opened, readouts, 2, lambda x: x)
    activations, gradients = objective.gradients(images, 0.0, redirected=False)
    return activations, gradients, objective.activations(images)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(
    "convolution", [{}, {"bias": False}, {"stride": 2}, {"padding": 1}, {"padding": "same", "dilation": 2}]
)
def test_the_same_gradients(monkeypatch: pytest.MonkeyPatch, batch_norm: bool, convolution: dict[str, object]) -> None:
    net = network(batch_norm, **convolution)
    nodes = [Channel("2", 1), Unit("2", 3, 1, 2), Direction("2", (1.0, -0.5, 0.0, 2.0, 0.25))]
    if not batch_norm:
        nodes.append(Channel("2", 2))
    images = torch.rand(2 * len(nodes), 3, 12, 14)
    activations, gradients, full = pulled(net, nodes, images)
    monkeypatch.setattr(Truncated, "convolution", lambda self, layer: None)
    expected = pulled(net, nodes, images)
    torch.testing.assert_close(activations, expected[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients, expected[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(activations, full, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("convolution", [{"groups": 1, "padding": 1, "padding_mode": "reflect"}])
def test_others_are_read_as_they_are(convolution: dict[str, object]) -> None:
    assert Truncated(network(False, **convolution), ["2"]).convolution("2") is None
    assert Truncated(network(False), ["1"]).convolution("1") is None
    assert Truncated(network(False), ["2"]).convolution("2") is not None
