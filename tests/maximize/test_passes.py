"""What a step costs the host: operators, and what it waits for. And that passes give each row its own."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from ouzel.errors import FailedPrecondition
from ouzel.maximize import Channel, ClassLogit, Direction, FourierRecipe, Maco, Pixel, Unit, maximize
from ouzel.maximize.ascent import REDIRECTED_STEPS
from ouzel.maximize.engine.objective import MOST_ROWS, ObjectiveGradients
from ouzel.maximize.inputs import Inputs
from support.operators import Operators


@pytest.fixture
def together(monkeypatch):
    """All rows in one pass, as on a GPU."""
    monkeypatch.setitem(MOST_ROWS, "cpu", 256)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 24, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(24 * 12 * 12, 20)).eval()


def counted(nodes, recipe) -> Operators:
    """Of one step after those in which dead rectifiers are looked for."""
    counts = Operators()

    def on_step(step) -> bool:
        if step.step == REDIRECTED_STEPS:
            counts.__enter__()
        if step.step == REDIRECTED_STEPS + 1:
            counts.__exit__(None, None, None)
        return step.step > REDIRECTED_STEPS

    maximize(network(), nodes, recipe=recipe, size=(16, 16), on_step=on_step)
    return counts


def of_the_optimizer(recipe) -> Counter[str]:
    """What it asks of its count of steps, which is on the host wherever the images are."""
    leaf = torch.zeros(3, requires_grad=True)
    leaf.grad = torch.ones(3)
    optimizer = recipe.optimizer([leaf])
    optimizer.step()
    with Operators() as counts:
        optimizer.step()
    return counts.waiting


@pytest.mark.parametrize(
    "recipe", [Pixel(steps=20), FourierRecipe(steps=20), Maco(steps=20)], ids=lambda each: each.name
)
@pytest.mark.parametrize(
    "node", [ClassLogit, lambda c: Channel("3", c), lambda c: Unit("3", c), lambda c: Channel("2", c % 8)]
)
@pytest.mark.usefixtures("together")
def test_a_step_waits_for_nothing_and_many_nodes_take_no_more_operators_than_a_few(node, recipe):
    few, many = (counted([node(c) for c in range(count)], recipe) for count in (2, 16))
    assert many.waiting == of_the_optimizer(recipe)
    assert few.made == many.made
    assert sum(few.made.values()) < 300  # maco: 266


@pytest.mark.parametrize("most", [2, 4, 64])
@pytest.mark.parametrize("copies", [1, 2])
def test_each_row_has_the_gradient_of_its_own_node(monkeypatch, most, copies):
    """Nodes of several layers and kinds, not sorted, against the whole network and one node after the other."""
    monkeypatch.setitem(MOST_ROWS, "cpu", most)
    net = network()
    nodes = [
        Channel("3", 5),
        ClassLogit(7),
        Unit("3", 2, 1, 4),
        Channel("2", 3),
        Direction("3", (1.0, -0.5) * 12),
        ClassLogit(0),
        Unit("2", 1),
    ]
    images = torch.rand(len(nodes) * copies, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    opened, readouts = Inputs(net, (16, 16), 3).open(nodes)
    objective = ObjectiveGradients(opened, readouts, copies, lambda x: x)
    activations, gradients = objective.gradients(images, 0.0, redirected=False)
    torch.testing.assert_close(objective.activations(images), activations, atol=1e-5, rtol=1e-4)
    for number, node in enumerate(nodes):
        rows = slice(number * copies, (number + 1) * copies)
        x = images[rows].clone().requires_grad_()
        output = net[: 1 + int(node.layer)](x) if not isinstance(node, ClassLogit) else net(x)
        if isinstance(node, ClassLogit):
            values = output[:, node.target]
        elif isinstance(node, Channel):
            values = output[:, node.channel].mean((1, 2))
        elif isinstance(node, Unit):
            middle = output.shape[2] // 2
            y, at = (middle, middle) if node.y is None else (node.y, node.x)
            values = output[:, node.channel, y, at]
        else:
            weights = torch.tensor(node.weights, dtype=torch.float64)
            values = (output.mean((2, 3)) * (weights / weights.norm()).float()).sum(1)
        (gradient,) = torch.autograd.grad(-values.sum(), x)
        torch.testing.assert_close(activations[rows], values.detach(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(gradients[rows], gradient, atol=1e-6, rtol=1e-3)


class Breaks(nn.Module):
    """Gives values that are not finite from the 7th pass on, with and without gradients."""

    passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Breaks.passes += x.requires_grad
        logits = x.flatten(1)[:, :3] * 2
        return logits / 0 if Breaks.passes >= 7 else logits


@pytest.mark.parametrize("watched", [False, True])
def test_values_that_are_not_finite_are_told_with_their_step(watched):
    """Also where nobody asks for figures in that step; and no state or image is given after it."""
    Breaks.passes, refused = 0, []

    def on_step(step) -> None:
        if step.step >= 7:
            for what in (step.state, step.images, lambda: step.activations):
                with pytest.raises(FailedPrecondition, match="not finite at step 7"):
                    what()
                refused.append(step.step)

    with pytest.raises(FailedPrecondition, match="not finite at step 7"):
        maximize(Breaks(), [ClassLogit(1)], recipe=Pixel(steps=9), size=(8, 8), on_step=on_step if watched else None)
    assert refused == ([7, 7, 7, 8, 8, 8, 9, 9, 9] if watched else [])


def test_a_run_that_nobody_watches_ends_soon_after_such_values():
    Breaks.passes = 0
    with pytest.raises(FailedPrecondition, match="not finite at step 7"):
        maximize(Breaks(), [ClassLogit(1)], recipe=Pixel(steps=5000), size=(8, 8))
    assert Breaks.passes <= 100
