"""Random views: how far they go, and what a step makes of several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from ouzel.errors import InvalidArgument
from ouzel.maximize import Channel, ClassLogit, FourierRecipe, Maco, Pixel, maximize
from ouzel.maximize.memory import check_memory, fitting
from ouzel.maximize.transforms import Views
from ouzel.maximize.unset import views_with_room


def network() -> nn.Sequential:
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32, 4)).eval()


@dataclass(frozen=True)
class Plain(Pixel):
    """Steps along the gradient itself."""

    def optimizer(self, leaves):
        return torch.optim.SGD(leaves, lr=1.0)


@pytest.mark.parametrize("copies", [1, 2])
def test_a_step_follows_the_mean_gradient_of_all_views(copies):
    recipe = Plain(steps=1, norm_weight=0, tv_weight=0, jitter=0.2, zoom_range=0.5, noise=0.1, views_per_step=3)
    model, nodes = network(), [ClassLogit(1), Channel("2", 5)]
    result = maximize(model, nodes, recipe=recipe, size=(16, 16), images_per_target=copies, seed=4)
    generator = torch.Generator().manual_seed(4)
    start = (0.5 + 0.02 * torch.randn(2 * copies, 3, 16, 16, generator=generator)).clamp(0, 1).requires_grad_()
    views = recipe.views(start.repeat_interleave(3, 0), generator)
    for row in range(2 * copies):
        three = views[3 * row : 3 * row + 3]
        value = (model(three)[:, 1] if row < copies else model[:3](three)[:, 5].mean((1, 2))).mean()
        assert result.visualizations[row].history[0] == pytest.approx(float(value.detach()), abs=1e-5)
        (gradient,) = torch.autograd.grad(value, start, retain_graph=True)
        expected = (start + gradient).clamp(0, 1)[row]
        assert (result.visualizations[row].image - expected).abs().max() <= 0.5 / 255 + 1e-5


def test_views_of_one_image_are_not_compared_with_each_other():
    """Else a weight of diversity would push the views of an image apart. One image has nobody to differ from."""
    options = {"steps": 2, "jitter": 0.2, "views_per_step": 2}
    runs = [
        maximize(network(), [Channel("2", 5)], recipe=Pixel(diversity=each, **options), size=(16, 16))
        for each in (0, 9)
    ]
    assert torch.equal(*(run.visualizations[0].image for run in runs))


def test_some_views_are_the_image_and_some_are_far_from_it():
    """Measured by where a dot in the middle goes."""
    images = torch.zeros(400, 1, 33, 33)
    images[:, :, 15:18, 15:18] = 1
    seen = Views(jitter=0.25, unchanged=0.4)(images, torch.Generator().manual_seed(0))
    places = torch.stack(torch.meshgrid(torch.arange(33.0), torch.arange(33.0), indexing="ij"))
    seen = seen * (seen > 0.55)  # outside of the image everything is grey
    weights = seen[:, 0] / seen[:, 0].sum((1, 2))[:, None, None]
    moved = ((weights[:, None] * places).sum((2, 3)) - 16).abs().amax(1)
    assert moved.max() <= 0.25 * 33 + 0.5
    assert 0.3 < float((moved < 1e-3).float().mean()) < 0.5
    assert float((moved > 0.15 * 33).float().mean()) > 0.1


def test_crops_stay_inside():
    """Nothing grey from outside comes in, and all of the image is seen."""
    ramp = torch.linspace(0.1, 0.9, 32).expand(400, 1, 32, 32)
    seen = Views(jitter=0.5, zoom=(1.0, 2.0), inside=True)(ramp, torch.Generator().manual_seed(0))
    assert torch.all(seen.diff(dim=3) > -1e-6)  # as in the image; grey would break the slope
    widths = seen[:, 0, 0, -1] - seen[:, 0, 0, 0]
    assert float(widths.min()) == pytest.approx(0.4, abs=0.03)
    assert float(widths.max()) == pytest.approx(0.8, abs=0.03)
    middles = seen[:, 0, 0].mean(1)
    assert float(middles.min()) < 0.35 < 0.65 < float(middles.max())


def test_the_rate_falls_in_the_last_steps():
    rates = []

    class Noted(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])

    @dataclass(frozen=True)
    class Annealed(Pixel):
        def optimizer(self, leaves):
            return Noted(leaves, lr=2.0)

    states = []
    options = {"recipe": Annealed(steps=8, anneal=0.5), "size": (16, 16), "on_step": lambda s: states.append(s.state())}
    maximize(network(), [ClassLogit(1)], **options)
    assert rates == [2.0, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0, 0.5]
    rates.clear()
    maximize(network(), [ClassLogit(1)], **options, resume=states[5])
    assert rates == [1.0, 0.5]


@pytest.mark.parametrize("decay", [0.5, 1.0, 1.5])
def test_the_spectrum_falls_as_asked(decay):
    recipe, shape = FourierRecipe(decay=decay), (1, 1, 32, 32)

    def amplitude(place):
        space = recipe.space(shape, torch.Generator().manual_seed(0), torch.device("cpu"))
        space.reach(1.0)
        with torch.no_grad():
            space.leaves[0].zero_()[0, 0, 0, place, 0] = 0.01
        return float((torch.logit(space.images().detach())).abs().max())

    assert amplitude(2) / amplitude(4) == pytest.approx(2**decay, rel=1e-3)
    whole = [FourierRecipe(decay=each, coarse_to_fine=0.0) for each in (decay, 1.0)]
    start, plain = (
        each.space(shape, torch.Generator().manual_seed(0), torch.device("cpu")).images().detach() for each in whole
    )
    assert float((start - 0.5).std()) == pytest.approx(float((plain - 0.5).std()), rel=0.5)


@pytest.mark.parametrize("edge", [16, 31])
def test_forms_are_sought_before_textures(edge):
    """The finest detail goes from four cycles per edge to all there is, and what is not sought yet does not move."""
    down, across = np.fft.fftfreq(edge) * edge, np.fft.rfftfreq(edge) * edge
    cycles = torch.from_numpy(np.hypot(down[:, None], across[None]))
    seen = []
    recipe = FourierRecipe(steps=8, coarse_to_fine=0.5, noise=0.0)
    begun = recipe.space((1, 3, edge, edge), torch.Generator().manual_seed(0), torch.device("cpu")).leaves[0].detach()
    options = {"recipe": recipe, "size": (edge, edge), "on_step": lambda s: seen.append((s.images(), s.state()))}
    final = maximize(network(), [ClassLogit(1)], **options).visualizations[0].image
    finest = []
    for step, (image, state) in enumerate(seen[:4], start=1):
        amplitude = torch.fft.rfft2(torch.logit(image[0].double())).abs().amax(dim=0)
        finest.append(float(cycles[amplitude > 1e-3].max()))  # far above the rounding of float32
        sought = 4 * (float(cycles.max()) / 4) ** (step / 4)
        assert finest[-1] == pytest.approx(float(cycles[cycles <= sought + 1e-4].max()))
        moved = (state["leaves"][0] - begun)[0].abs().amax(dim=(0, 3)) > 0
        assert torch.equal(moved, cycles <= 4 * (float(cycles.max()) / 4) ** ((step - 1) / 4) + 1e-4)
    assert finest == sorted(set(finest))
    assert finest[-1] == float(cycles.max())
    assert (final - seen[-1][0][0]).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(("pooled", "expected"), [(True, 0.0), (False, 0.4)])
def test_unchanged_views_go_by_the_network(pooled, expected):
    """One that takes images of one size only may know things in one place only. The result says what was taken."""
    torch.manual_seed(0)
    end = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)] if pooled else [nn.Flatten(), nn.Linear(784, 3)]
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), *end).eval()
    options = {"recipe": FourierRecipe(steps=2), "size": (16, 16)}
    assert maximize(model, [ClassLogit(1)], **options).recipe.unchanged == expected
    options["recipe"] = FourierRecipe(steps=2, unchanged=0.2)
    assert maximize(model, [ClassLogit(1)], **options).recipe.unchanged == 0.2


def test_noise_has_the_deviation_that_is_asked_for():
    images = torch.full((64, 3, 32, 32), 0.5)
    noise = Views(noise=0.1)(images, torch.Generator().manual_seed(0)) - images
    assert float(noise.std()) == pytest.approx(0.1, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0, abs=0.002)


def test_the_longer_the_way_the_less_a_step_of_maco_turns():
    """The leaf is standardised: ten times as large, it stands for the same phases and turns a tenth as far."""
    space = Maco().space((1, 3, 12, 12), torch.Generator().manual_seed(0), torch.device("cpu"))
    before = space.images().detach().clone()
    with torch.no_grad():
        space.leaves[0] *= 10
        space.leaves[0] += 3
    assert torch.allclose(space.images(), before, atol=1e-5)


@pytest.mark.parametrize(
    ("device", "images", "memory", "expected"),
    [
        ("cpu", 1, 9, 1),
        ("cuda", 1, 9, 4),
        ("cuda", 16, 9, 4),
        ("cuda", 30, 9, 2),
        ("cuda", 99, 9, 1),
        ("cuda", 1, 3, 3),
    ],
)
def test_views_go_by_the_room_on_the_device(device, images, memory, expected):
    assert views_with_room(device, images, 64, lambda views: views <= memory) == expected


def test_no_more_views_than_a_run_of_as_many_is_allowed():
    model, example = network(), torch.zeros(1, 3, 16, 16)
    answers = set()
    for memory in range(0, 1_000_000, 50_000):
        for views in (1, 2, 4):
            try:
                check_memory(model, example, 3 * views, 3, memory, views=views)
                allowed = True
            except InvalidArgument:
                allowed = False
            assert fitting(model, example, 3, memory)(views) == allowed
            answers.add((views, allowed))
    assert len(answers) == 6


def test_a_run_goes_on_with_the_views_that_it_began_with():
    """On a CPU there would be one."""
    options = {"size": (16, 16), "seed": 3}
    states = []
    three = FourierRecipe(steps=6, views_per_step=3)
    whole = maximize(network(), [ClassLogit(1)], recipe=three, on_step=lambda s: states.append(s.state()), **options)
    resumed = maximize(network(), [ClassLogit(1)], recipe=FourierRecipe(steps=6), resume=states[2], **options)
    assert resumed.recipe == whole.recipe
    assert (resumed.visualizations[0].image - whole.visualizations[0].image).abs().max() <= 1e-5
    assert resumed.visualizations[0].history == whole.visualizations[0].history
    assert maximize(network(), [ClassLogit(1)], recipe=FourierRecipe(steps=1), **options).recipe.views_per_step == 1
