"""Images that really excite: digits that two networks recognise, classes and channels of a network for photographs."""

from __future__ import annotations

import io
import json

import pytest
import torch
from torch import nn

from ouzel.errors import InvalidArgument
from ouzel.maximize import Channel, ClassLogit, Direction, FourierRecipe, Maco, Pixel, Unit, from_description, maximize
from ouzel.maximize.described import described
from ouzel.maximize.engine.truncated import Truncated

DIGITS = [ClassLogit(index) for index in range(10)]


def recognised(network, images):
    """How many of ten images are their own class, with p > .99."""
    with torch.no_grad():
        return int((network(images).softmax(1).diagonal() > 0.99).sum())


def images_of(result):
    return torch.stack([each.image for each in result.visualizations])


@pytest.mark.parametrize("recipe", [Pixel(steps=200), FourierRecipe(steps=200)], ids=lambda recipe: recipe.name)
def test_digits_are_recognised_also_by_another_network(cnn, other_cnn, recipe):
    result = maximize(cnn, DIGITS, recipe=recipe, size=(28, 28), channels=1, seed=1)
    images = images_of(result)
    assert recognised(cnn, images) == 10
    with torch.no_grad():
        assert int((other_cnn(images).argmax(1) == torch.arange(10)).sum()) >= 9
    assert images.min() >= 0
    assert images.max() <= 1


def keras_vis(network, classes, steps=200):
    """The recipe of keras-vis, for comparison: RMSProp at rate 1 on the normalised gradient, L6 norm and total
    variation weighted by 10, nothing that keeps the image within [0, 1]; scaled there at the end.
    """
    x = 0.5 + 0.1 * torch.randn(classes, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    mean_square = torch.zeros_like(x)
    for _ in range(steps):
        x = x.detach().requires_grad_()
        tv = (x[..., 1:, :-1] - x[..., :-1, :-1]).square() + (x[..., :-1, 1:] - x[..., :-1, :-1]).square()
        norm = x.abs().pow(6).flatten(1).sum(1).pow(1 / 6) / 784
        loss = -network(x).diagonal() + 10 * norm + 10 * tv.flatten(1).sum(1) / 784
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        gradient = gradient / (gradient.flatten(1).norm(dim=1)[:, None, None, None] + 1e-7)
        mean_square = 0.9 * mean_square + 0.1 * gradient.square()
        x = x - gradient / (mean_square.sqrt() + 1e-7)
    flat = x.detach().flatten(1)
    low, high = flat.min(1).values[:, None], flat.max(1).values[:, None]
    return ((flat - low) / (high - low)).reshape(x.shape)


def test_the_recipe_that_leaves_the_range_is_recognised_less(cnn):
    assert recognised(cnn, keras_vis(cnn, 10)) <= 6


def test_the_activation_is_that_of_the_very_image(cnn):
    result = maximize(cnn, DIGITS[:3], recipe=FourierRecipe(steps=5), size=(28, 28), channels=1)
    for index, each in enumerate(result.visualizations):
        assert torch.equal((each.image * 255).round() / 255, each.image)  # a PNG holds it
        with torch.no_grad():
            assert each.activation == pytest.approx(float(cnn(each.image[None])[0, index]), abs=1e-4)
        assert len(each.history) == 5
        assert each.transparency.shape == (28, 28)
        assert 0 <= each.transparency.min() < each.transparency.max() == 1


@pytest.mark.parametrize("recipe", [Pixel(steps=12), FourierRecipe(steps=12), Maco(steps=12)], ids=lambda r: r.name)
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(cnn, recipe):
    options = {"recipe": recipe, "size": (28, 28), "channels": 1, "seed": 5}
    whole = maximize(cnn, DIGITS[:2], **options)
    states = []

    def stop_at_five(seen):
        if seen.step == 5:
            states.append(seen.state())
        return seen.step == 5

    part = maximize(cnn, DIGITS[:2], on_step=stop_at_five, **options)
    assert part.stopped
    assert part.steps == 5
    saved = io.BytesIO()
    torch.save(states[0], saved)
    saved.seek(0)
    resumed = maximize(cnn, DIGITS[:2], resume=torch.load(saved, weights_only=True), **options)
    assert (images_of(resumed) - images_of(whole)).abs().max() <= 1e-5
    assert [each.history for each in resumed.visualizations] == [each.history for each in whole.visualizations]
    assert not whole.stopped


def test_a_state_does_not_go_on_by_another_recipe(cnn):
    """Its coefficients mean other images there, and the result would name a recipe that has not made them."""
    options = {"size": (28, 28), "channels": 1}
    states = []
    whole = FourierRecipe(steps=2, decay=1.5)
    maximize(cnn, DIGITS[:1], recipe=whole, on_step=lambda seen: states.append(seen.state()), **options)
    kept = states[0]
    unknown = {name: value for name, value in kept.items() if name != "recipe"}
    for state, recipe in ((kept, FourierRecipe(steps=2)), (unknown, whole)):
        with pytest.raises(InvalidArgument, match=r"resume: is not the state of this call .*recipe"):
            maximize(cnn, DIGITS[:1], recipe=recipe, resume=state, **options)
    again = from_description(json.loads(json.dumps(kept["recipe"])))
    assert again == maximize(cnn, DIGITS[:1], recipe=again, resume=kept, **options).recipe
    measured = Maco(steps=2, spectrum=((1.0, 0.5, 0.25),))
    assert from_description(json.loads(json.dumps(described(measured)))) == measured


def test_steps_are_told(cnn):
    seen = []
    maximize(cnn, DIGITS[:2], recipe=Pixel(steps=3), size=(28, 28), channels=1, on_step=seen.append)
    assert [(one.step, one.steps) for one in seen] == [(1, 3), (2, 3), (3, 3)]
    assert all(len(one.activations) == len(one.objectives) == 2 for one in seen)
    assert seen[-1].images().shape == (2, 1, 28, 28)


@pytest.mark.parametrize(
    "node",
    [
        ClassLogit(3),
        Channel("conv2", 4),
        Unit("conv2", 4, x=2, y=7),
        Unit("conv1", 0),
        Direction("conv2", (1.0, -2.0) * 16),
    ],
    ids=lambda node: type(node).__name__,
)
def test_objective_and_gradient_are_those_of_a_full_forward(cnn, node):
    """The early exit changes nothing: against hooks on the whole network, and the definitions spelt out."""
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)).requires_grad_()
    kept = {}
    for name, module in cnn.named_modules():
        module.register_forward_hook(lambda module, inputs, output, name=name: kept.__setitem__(name, output))
    logits = cnn(x)
    if isinstance(node, ClassLogit):
        wanted = logits[:, 3]
    elif isinstance(node, Channel):
        wanted = kept["conv2"][:, 4].mean(dim=(1, 2))
    elif isinstance(node, Direction):
        weights = torch.tensor(node.weights) / torch.tensor(node.weights).norm()
        wanted = (kept["conv2"].mean(dim=(2, 3)) * weights).sum(dim=1)
    elif node.layer == "conv2":
        wanted = kept["conv2"][:, 4, 7, 2]
    else:
        wanted = kept["conv1"][:, 0, 13, 13]
    (gradient,) = torch.autograd.grad(wanted.sum(), x)
    for module in cnn.modules():
        module._forward_hooks.clear()
    from ouzel.maximize.nodes import LOGITS, readout

    layer = LOGITS if isinstance(node, ClassLogit) else node.layer
    cut = Truncated(cnn, {layer})
    read = readout(node, cut.shapes(x.detach())[layer], (), "targets[0]")
    objective = read(cut(x)[layer])
    assert torch.allclose(objective, wanted, atol=1e-5)
    (own,) = torch.autograd.grad(objective.sum(), x)
    assert torch.allclose(own, gradient, atol=1e-6)


@pytest.mark.parametrize("layer", ["0", "1", "2", "4"])
def test_folding_changes_no_output_and_no_gradient(layer):
    """A convolution before its BatchNorm, that, and what follows; one channel's scale is 0."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4)
    )
    for norm in (network[1], network[4]):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, -2, 2)
    with torch.no_grad():
        network[1].weight[5] = 0
    network.double().eval()
    x = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    results = []
    for folds in (False, True):
        cut = Truncated(network, {layer})
        if folds:
            cut.fold(x[:1])
        leaf = x.clone().requires_grad_()
        output = cut(leaf)[layer][:, :4]
        results.append((output, torch.autograd.grad(output.square().sum(), leaf)[0]))
    for plain, folded in zip(*results, strict=True):
        assert torch.allclose(plain, folded, atol=1e-10)


def test_the_forward_stops_at_the_layer():
    ran = []

    class Counted(nn.Identity):
        def forward(self, x):
            ran.append(True)
            return x

    network = nn.Sequential(nn.Conv2d(1, 2, 3), Counted(), nn.Conv2d(2, 2, 3), Counted(), nn.Flatten())
    Truncated(network, {"2"})(torch.zeros(1, 1, 8, 8))
    assert len(ran) == 1


def test_dead_units_come_to_life(monkeypatch):
    """A unit that no start excites has no gradient of its own; the first steps find one nevertheless."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.ReLU(inplace=True))
    with torch.no_grad():
        network[0].bias.fill_(0.1)
        network[2].weight.abs_()
        network[2].bias.fill_(-0.6)
    recipe = Pixel(steps=60, tv_weight=0, norm_weight=0, rate=0.1)

    def sought():
        return maximize(network, [Channel("3", 0)], recipe=recipe, size=(16, 16), channels=1).visualizations[0]

    alive = sought()
    assert alive.history[0] == 0
    assert alive.activation > 0
    monkeypatch.setattr("ouzel.maximize.ascent.REDIRECTED_STEPS", 0)
    assert sought().activation == 0


def test_diversity_gives_different_images(cnn):
    def spread(diversity):
        recipe = FourierRecipe(steps=60, diversity=diversity)
        result = maximize(cnn, [Channel("conv2", 3)], recipe=recipe, images_per_target=3, size=(28, 28), channels=1)
        assert len(result.visualizations) == 3
        features = Truncated(cnn, {"conv2"})(images_of(result))["conv2"].detach().flatten(2)
        grams = nn.functional.normalize((features @ features.transpose(1, 2)).flatten(1), dim=1)
        return float((grams @ grams.T).sum() - 3) / 6

    assert spread(20.0) < spread(0.0)


def test_classes_of_photographs(lite0):
    """Five classes, from one batch, each recognised as itself."""
    labels = ("tabby", "espresso", "goldfish", "strawberry", "zebra")
    result = maximize(
        lite0, [ClassLogit(label) for label in labels], recipe=FourierRecipe(steps=64), seed=0, size=(128, 128)
    )
    mean, std = (torch.tensor(v)[:, None, None] for v in (lite0.preprocessing.mean, lite0.preprocessing.std))
    with torch.no_grad():
        best = lite0.network((images_of(result) - mean) / std).argmax(1)
    assert [lite0.labels[index] for index in best] == list(labels)


def test_the_network_stays_as_it_is(cnn):
    before = {name: values.clone() for name, values in cnn.state_dict().items()}
    maximize(cnn, DIGITS, recipe=Pixel(steps=2), size=(28, 28), channels=1)
    assert all(torch.equal(values, before[name]) for name, values in cnn.state_dict().items())
    assert not any(module._forward_hooks for module in cnn.modules())
    assert all(parameter.requires_grad for parameter in cnn.parameters())
