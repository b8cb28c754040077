"""Variation of a batch against torchvision, image by image; and what is drawn against its documentation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as one

from ouzel.finetune.recipes import make_recipe
from ouzel.finetune.variation import Pixels, Variation, Views, one_by_one, together, variation
from ouzel.models import Preprocessing
from support.operators import Operators

SIZES = np.array([[110, 140], [110, 110], [300, 110], [110, 700], [112, 133], [97, 96]])


def images(channels: int = 3, sizes: np.ndarray = SIZES) -> list[torch.Tensor]:
    """(C, h, w) uint8, smooth: with noise, torchvision's rounding between rows and columns is all that one sees."""
    made = []
    for number, (height, width) in enumerate(sizes):
        y, x = torch.meshgrid(torch.linspace(0, 9, int(height)), torch.linspace(0, 11, int(width)), indexing="ij")
        waves = [127.5 + 120 * torch.sin(y * (k + 1) + number) * torch.cos(x + k) for k in range(channels)]
        made.append(torch.stack(waves).round().to(torch.uint8))
    return made


def together_in_memory(made: list[torch.Tensor]) -> Pixels:
    areas = torch.tensor([each[0].numel() for each in made])
    widths = torch.tensor([each.shape[2] for each in made])
    values = torch.cat([each.permute(1, 2, 0).flatten(0, 1) for each in made])
    return Pixels(values, torch.stack([areas.cumsum(0) - areas, widths], 1))


def preprocessing(channels: int = 3, interpolation: str = "bilinear") -> Preprocessing:
    return Preprocessing(channels, (96, 80), 110, interpolation, (0.4,) * channels, (0.2,) * channels)


def plain(made: list[torch.Tensor], views: Views, interpolation: str) -> torch.Tensor:
    """Each crop by itself, in float32 as torchvision has it."""
    out = []
    for image, (top, left, high, wide, mirrored) in zip(made, views.table[:, :5].int().tolist(), strict=True):
        mode = v2.InterpolationMode(interpolation)
        crop = one.resized_crop(image.float(), top, left, high, wide, [96, 80], mode, antialias=True)
        out.append(one.horizontal_flip(crop) if mirrored else crop)
    return torch.stack(out).clamp(0, 255)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("smallest", [0.08, 0.5])
def test_both_ways_are_torchvisions(channels, interpolation, smallest):
    made = images(channels)
    vary = Variation(preprocessing(channels, interpolation), smallest, flip=True, color=0)
    pixels = together_in_memory(made)
    seen = Counter()
    for step in range(5):
        views = vary.draw((0, 0, step), SIZES)
        seen.update(views.table[:, 4].tolist())
        expected = plain(made, views, interpolation)
        torch.testing.assert_close(
            together(pixels, views, (96, 80), interpolation), expected, atol=2e-2, rtol=0
        )  # of 255
        rounded = one_by_one(pixels, views, (96, 80), interpolation).float()
        assert float((rounded - expected).abs().max()) <= 1.6  # grey levels: rounded after rows, and after columns
    assert seen.keys() == {0.0, 1.0}


@pytest.mark.parametrize("resample", [one_by_one, together])
def test_no_crop_of_an_image_of_the_right_size_is_the_image(resample):
    sizes = np.array([[96, 80], [96, 80]])
    chance = torch.Generator().manual_seed(0)
    made = [torch.randint(0, 256, (3, 96, 80), generator=chance, dtype=torch.uint8) for _ in sizes]
    views = variation(make_recipe("lp_ft", {"crop": 1.0, "flip": False}), preprocessing()).draw((0, 0, 0), sizes)
    assert torch.equal(
        resample(together_in_memory(made), views, (96, 80), "bilinear").float(), torch.stack(made).float()
    )


def test_without_crop_the_centre_is_seen_as_torchvision_cuts_it():
    made = images()[:5]
    vary = Variation(preprocessing(), 1.0, flip=False, color=0)
    x = vary(together_in_memory(made), vary.draw((0, 0, 0), SIZES[:5]))
    expected = torch.stack([v2.CenterCrop((96, 80))(each) for each in made])
    assert torch.equal(x, preprocessing().normalised(expected))


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_torchvisions(channels):
    made = [each[:, :96, :80] for each in images(channels)[:5]]
    sizes = np.array([[96, 80]] * 5)
    vary = Variation(preprocessing(channels), 1.0, flip=False, color=0.8)
    views = vary.draw((4, 0, 0), sizes)
    x = vary(together_in_memory(made), views)
    functions = (one.adjust_brightness, one.adjust_contrast, one.adjust_saturation)
    orders = set()
    for pixels, row, varied in zip(made, views.table.tolist(), x, strict=True):
        image = pixels.float() / 255
        orders.add(tuple(row[8:]))
        for which in map(int, row[8:]):
            if which < 2 or channels == 3:
                image = functions[which](image, row[5 + which])
        torch.testing.assert_close(varied, (image - 0.4) / 0.2, atol=2e-3, rtol=0)
    assert len(orders) > 2
    assert len({row[5] for row in views.table.tolist()}) == 5


def measures(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas, and widths to heights."""
    return boxes[:, 2] * boxes[:, 3], boxes[:, 3] / boxes[:, 2]


def test_crops_are_drawn_as_torchvision_draws_them():
    """Shares, shapes and places of 20,000 crops of images of several shapes, by their quantiles."""
    count = 20_000
    for height, width in ((110, 110), (110, 150), (256, 110)):
        vary = Variation(preprocessing(), 0.3, flip=True, color=0)
        table = vary.draw((7, 1, 2), np.array([[height, width]] * count)).table.numpy()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            transform = v2.RandomResizedCrop((96, 80), (0.3, 1.0))
            empty = torch.zeros(3, height, width, dtype=torch.uint8)
            given = [transform.make_params([empty]) for _ in range(count)]
        theirs = np.array([[each[name] for name in ("top", "left", "height", "width")] for each in given])
        ours = table[:, :4]
        assert (ours >= 0).all()
        assert (ours[:, :2] + ours[:, 2:] <= (height, width)).all()
        for mine, other in zip(measures(ours), measures(theirs), strict=True):
            quantiles = np.linspace(0.02, 0.98, 25)
            np.testing.assert_allclose(np.quantile(mine, quantiles), np.quantile(other, quantiles), rtol=0.02)
        for column in (0, 1):
            assert abs(ours[:, column].mean() - theirs[:, column].mean()) < 0.6
        assert abs(table[:, 4].mean() - 0.5) < 0.02


def test_an_image_too_long_for_any_crop_shows_its_centre():
    sizes = np.array([[110, 1100], [1100, 110]])
    views = Variation(preprocessing(), 0.9, flip=False, color=0).draw((0, 0, 0), sizes)
    transform = v2.RandomResizedCrop((96, 80), (0.9, 1.0))
    for (height, width), box in zip(sizes, views.table[:, :4].int().tolist(), strict=True):
        params = transform.make_params([torch.zeros(3, int(height), int(width))])
        assert box == [params[name] for name in ("top", "left", "height", "width")]


def test_draws_differ_from_image_to_image_and_step_to_step_and_return():
    vary = Variation(preprocessing(), 0.3, flip=True, color=0.2)
    sizes = np.array([[110, 140]] * 8)
    table = vary.draw((5, 1, 9), sizes).table
    assert len({tuple(row) for row in table.tolist()}) == 8
    assert torch.equal(table, vary.draw((5, 1, 9), sizes).table)
    for other in ((6, 1, 9), (5, 0, 9), (5, 1, 10)):
        assert not torch.equal(table, vary.draw(other, sizes).table)


def test_parts_of_a_batch_are_what_the_batch_holds():
    made = images()
    vary = Variation(preprocessing(), 0.3, flip=True, color=0.3)
    pixels, views = together_in_memory(made), vary.draw((1, 0, 3), SIZES)
    parts = [vary(pixels.part(rows), views.part(rows)) for rows in (slice(0, 2), slice(2, 6))]
    assert torch.equal(torch.cat(parts), vary(pixels, views))


def test_a_large_batch_takes_no_more_operators_than_a_small_one():
    counted = []
    for count in (2, 32):
        made = images(sizes=np.array([[110, 120]] * count))
        vary = Variation(preprocessing(), 0.3, flip=True, color=0)
        pixels, views = together_in_memory(made), vary.draw((1, 0, 3), np.array([[110, 120]] * count))
        with Operators() as calls:
            together(pixels, views, (96, 80), "bilinear")
        counted.append(calls.made)
    assert counted[0] == counted[1]
    assert sum(counted[0].values()) < 120
    assert not calls.waiting
