"""Each metric against a slow, plain computation, and where the truth is known, against the truth."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from ouzel.metrics import deletion, randomization, regions, robustness
from ouzel.saliency.baselines import blurred


def slow_curve(network, x, values, target, mode, steps):
    """One pixel order by sorting a list, one forward per step. The values must differ from each other."""
    height, width = values.shape
    order = sorted(((float(values[i, j]), i, j) for i in range(height) for j in range(width)), reverse=True)
    start, end = (x, x.mean(dim=(1, 2), keepdim=True).expand_as(x)) if mode == "deletion" else (blurred(x[None])[0], x)
    scores = []
    for step in range(steps + 1):
        image = start.clone()
        for _, i, j in order[: round(step * len(order) / steps)]:
            image[:, i, j] = end[:, i, j]
        scores.append(float(network(image[None])[0].detach().softmax(0)[target]))
    return scores


@pytest.mark.parametrize("mode", ["deletion", "insertion"])
@pytest.mark.parametrize("steps", [2, 7, 40])
def test_curves_are_those_of_a_plain_computation(linear, x, mode, steps):
    values = torch.rand(12, 10, generator=torch.Generator().manual_seed(5))
    slow = slow_curve(linear, x, values, 1, mode, steps)
    fast = deletion.curve(linear, x, values, 1, mode, steps=steps)
    assert fast.tolist() == pytest.approx(slow, abs=1e-12)
    area = sum((a + b) / 2 for a, b in itertools.pairwise(slow)) / steps
    assert deletion.area(linear, x, values, 1, mode, steps=steps) == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize("steps", [2, 7, 16])
def test_areas_of_many_maps_are_those_of_each(linear, x, steps):
    maps = [torch.rand(x.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    asked = []

    def probability(images):
        asked.append(len(images))
        return linear(images).detach().double().softmax(1)[:, 1]

    areas = deletion.areas_of(probability, x, maps, steps=steps)
    for values, both in zip(maps, areas, strict=True):
        for mode, area in zip(("deletion", "insertion"), both, strict=True):
            slow = slow_curve(linear, x, values, 1, mode, steps)
            assert area == pytest.approx(sum((a + b) / 2 for a, b in itertools.pairwise(slow)) / steps, abs=1e-12)
    assert sum(asked) == 3 + len(maps) * 2 * (steps - 1)  # the ends are asked about once


def test_the_true_contributions_delete_best(linear, x, weight):
    """In a linear network of two classes, what a pixel adds to the difference of the logits is known."""
    gain = ((weight[0] - weight[1]) * (x - x.mean(dim=(1, 2), keepdim=True))).sum(dim=0)
    best = deletion.area(linear, x, gain, 0, "deletion", steps=30)
    shuffled = gain.flatten()[torch.randperm(120, generator=torch.Generator().manual_seed(0))].reshape(12, 10)
    assert best < deletion.area(linear, x, shuffled, 0, "deletion", steps=30)
    assert best < deletion.area(linear, x, -gain, 0, "deletion", steps=30)


def test_equal_values_are_taken_in_an_order_of_their_own(linear, x):
    flat = torch.zeros(12, 10)
    curves = [deletion.curve(linear, x, flat, 0, "deletion", steps=10, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(curves[0], curves[1])
    assert not torch.equal(curves[0], curves[2])


def test_regions():
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[10:20, 10:20] = True
    values = torch.zeros(40, 40)
    values[12, 12], values[30, 30] = 3, -1
    assert regions.energy_inside(values, mask) == pytest.approx(0.75)
    assert regions.energy_inside(mask.float(), mask) == 1
    assert regions.energy_inside(torch.zeros(40, 40), mask) == 0
    assert regions.pointing_game(values, mask, tolerance=0) == 1
    assert regions.pointing_game(values.flip(0), mask, tolerance=0) == 0
    assert regions.pointing_game(torch.zeros(40, 40), mask, tolerance=0) == pytest.approx(100 / 1600)


@pytest.mark.parametrize(("row", "hit"), [(24, 1), (25, 0)])
def test_pointing_game_forgives_so_many_pixels(row, hit):
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[10:20, 10:20] = True
    values = torch.zeros(40, 40)
    values[row, 15] = 1
    assert regions.pointing_game(values, mask, tolerance=5) == hit


def test_rank_correlation_is_spearmans_of_absolute_values():
    a, b = (torch.randn(9, 7, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    b[0] = 0  # ties
    wanted = stats.spearmanr(np.abs(a).ravel(), np.abs(b).ravel()).statistic
    assert randomization.rank_correlation(a, b) == pytest.approx(wanted, abs=1e-12)
    assert randomization.rank_correlation(a, -a) == pytest.approx(1)
    assert randomization.rank_correlation(a, torch.ones(9, 7)) == 0


def test_randomisation_goes_from_the_output_down_and_keeps_the_values():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 8, 3), torch.nn.Conv2d(8, 2, 3)
    )
    before = {name: values.clone() for name, values in network.state_dict().items()}
    changed = []
    for stage in randomization.cascade(network, 2):
        state = stage.state_dict()
        changed.append({name.split(".")[0] for name, values in state.items() if not torch.equal(values, before[name])})
        for name, values in state.items():
            assert torch.equal(values.flatten().sort().values, before[name].flatten().sort().values)
    assert changed[0] == {"2", "3"}
    assert changed[1] >= {"0", "2", "3"}
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


def test_infidelity_of_a_linear_network(linear, x, weight):
    def measured(values):
        return robustness.infidelity(linear, x, values, 0, samples=200)

    assert measured(weight[0]) < 1e-12
    assert measured(17 * weight[0]) < 1e-12  # its scale does not matter
    assert measured(torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(9), dtype=torch.float64)) > 0.9
    half = torch.where(torch.arange(10) < 5, weight[0], 0.0)  # explains as much as its share of the variance
    unexplained = 1 - half.square().sum() / weight[0].square().sum()
    assert measured(half) == pytest.approx(float(unexplained), abs=0.15)


def test_max_sensitivity_is_the_largest_relative_change(x):
    seen = []

    def explain(inputs):
        seen.extend(inputs)
        return inputs.square().sum(dim=1)

    measured = robustness.max_sensitivity(explain, x, samples=6, seed=2)
    maps = [one.square().sum(dim=0) for one in seen]
    own = maps[0]
    others = maps[-6:]
    wanted = max(float((one - own).norm() / own.norm()) for one in others)
    assert measured == pytest.approx(wanted, rel=1e-6)
    assert all(0 < (one - x).abs().max() <= robustness.RADIUS * (1 + 1e-6) for one in seen[-6:])
    assert robustness.max_sensitivity(lambda inputs: torch.ones(len(inputs), 4, 4), x, samples=3) == 0


def test_one_logit_counts_by_its_sigmoid(linear, x, weight):
    """The difference of the logits of two classes is a network of one: the sigmoid of it is the softmax of these."""

    def difference(images):
        both = linear(images)
        return both[:, :1] - both[:, 1:2]

    values = torch.rand(12, 10, generator=torch.Generator().manual_seed(5))
    for mode in ("deletion", "insertion"):
        one, two = (deletion.area(net, x, values, 0, mode, steps=9) for net in (difference, linear))
        assert one == pytest.approx(two, abs=1e-12)
