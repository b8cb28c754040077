"""Statistics of photographs that images are to have, and smooth starts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ouzel.errors import InvalidArgument
from ouzel.maximize import Channel, ClassLogit, FourierRecipe, Pixel, maximize
from ouzel.maximize.engine.truncated import Truncated
from ouzel.maximize.nodes import LOGITS, Readout
from ouzel.maximize.statistics import Statistics, layers_before, statistics_of


def network() -> nn.Sequential:
    """Rectifiers overwrite what convolutions put out."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


def photographs(count: int = 3) -> list[torch.Tensor]:
    return list(torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(5)))


def readout(index: int) -> Readout:
    return Readout(LOGITS, torch.eye(4)[index], "")


def test_the_distance_is_that_of_sorted_values():
    """Against a plain loop."""
    generator = torch.Generator().manual_seed(0)
    values, counts = {"a": torch.rand(2, 3, 4)}, {"a": torch.rand(2, 3)}
    rows = torch.rand(3, 3, 2, 2, generator=generator)
    found = Statistics(2.0, values, counts).distance({"a": rows}, [1, 0, 1])
    for row, node in enumerate([1, 0, 1]):
        total = 0.0
        for channel in range(3):
            pairs = zip(sorted(rows[row, channel].flatten().tolist()), values["a"][node, channel].tolist(), strict=True)
            total += float(counts["a"][node, channel]) * sum((x - y) ** 2 for x, y in pairs) / 12
        assert float(found[row]) == pytest.approx(2 * total / float(values["a"][node].square().mean()), rel=1e-5)


def test_values_and_relevance_are_those_of_the_photographs():
    model, images = network(), photographs()
    run = Truncated(model, {"0", "2", LOGITS})
    run.shapes(images[0][None])
    found = statistics_of(run, ["0", "2"], [readout(1)], [images], weight=1.0, relevance=1.0)
    sums, moved = torch.zeros(8, 16 * 16 - 60), torch.zeros(8)
    for image in images:
        before = model[1](model[0](image[None])).detach().requires_grad_()
        inner = model[2](before)
        rectified = inner.clamp(min=0)  # nn.ReLU would overwrite it
        (gradient,) = torch.autograd.grad(model[4:](rectified)[0, 1], inner)
        sums += inner[0].flatten(1).sort(1).values.detach() / 3
        moved += (inner * gradient)[0].sum((1, 2)).abs().detach()
    assert torch.allclose(found.values["2"][0], sums, atol=1e-5)
    assert torch.allclose(found.relevance["2"][0], moved / moved.mean(), atol=1e-4)
    assert float(found.relevance["0"].mean()) == pytest.approx(1, abs=1e-5)


def test_half_the_relevance_is_half_way():
    run = Truncated(network(), {"0", "2", LOGITS})
    run.shapes(photographs()[0][None])
    none, half, all_of_it = (
        statistics_of(run, ["0"], [readout(0)], [photographs()], weight=1.0, relevance=share).relevance["0"]
        for share in (0.0, 0.5, 1.0)
    )
    assert torch.equal(none, torch.ones(1, 6))
    assert torch.allclose(half, (none + all_of_it) / 2, atol=1e-5)


def test_layers_reach_no_further_than_the_targets():
    x = photographs()[0][None]
    assert layers_before(network(), x, [readout(0)]) == ("0", "2")
    assert layers_before(network(), x, [Readout("1", torch.zeros(6), "")]) == ("0",)


@pytest.mark.parametrize("node", [ClassLogit(2), Channel("2", 3)])
def test_images_come_nearer_to_the_photographs(node):
    model, data = network(), [(str(n), image) for n, image in enumerate(photographs())]
    options = {"size": (16, 16), "seed": 3, "data": data}
    run = Truncated(model, {"0", LOGITS})
    run.shapes(data[0][1][None])
    wanted = statistics_of(run, ["0"], [readout(0)], [photographs()], weight=1.0, relevance=0.0)
    distances = []
    for weight in (0.0, 100.0):
        recipe = FourierRecipe(steps=30, statistics=weight)
        image = maximize(model, [node], recipe=recipe, **options).visualizations[0].image
        distances.append(float(wanted.distance(run(image[None], {"0"}), [0])))
    assert distances[1] < distances[0] / 2


def test_a_resumed_run_ends_where_it_would_have():
    states = []
    options = {
        "recipe": Pixel(steps=6, statistics=3.0, relevance=0.5, low_start=0.1),
        "size": (16, 16),
        "data": [(str(n), image) for n, image in enumerate(photographs())],
    }
    whole = maximize(network(), [ClassLogit(1), ClassLogit(3)], **options, on_step=lambda s: states.append(s.state()))
    resumed = maximize(network(), [ClassLogit(1), ClassLogit(3)], **options, resume=states[2])
    for one, other in zip(whole.visualizations, resumed.visualizations, strict=True):
        assert torch.equal(one.image, other.image)
        assert one.activation == other.activation


def test_statistics_of_nothing_are_refused():
    with pytest.raises(InvalidArgument, match="statistics: needs photographs") as caught:
        maximize(network(), [ClassLogit(1)], recipe=Pixel(steps=1, statistics=1.0), size=(16, 16))
    assert caught.value.field == "parameters.statistics"


@pytest.mark.parametrize("kind", [Pixel, FourierRecipe])
def test_a_smooth_start_is_smooth_and_as_strong_as_asked(kind):
    space = kind(low_start=0.15).space((2, 3, 64, 64), torch.Generator().manual_seed(0), torch.device("cpu"))
    images = space.images().detach()
    assert images.flatten(1).std(1).tolist() == pytest.approx([0.15, 0.15], abs=0.03)
    energy = torch.fft.rfft2(images - images.mean((2, 3), keepdim=True)).abs().square()
    assert float(energy[..., 12:-12, 12:].sum() / energy.sum()) < 1e-3
