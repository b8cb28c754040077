"""Resizing many images at once is what Pillow makes of each, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ouzel.models import Preprocessing, resampling
from ouzel.models.preprocessing import INTERPOLATIONS
from ouzel.models.resampling import Box, resample


def images(sizes: list[tuple[int, int]], seed: int) -> list[np.ndarray]:
    """Hard edges as well as noise: bicubic overshoots at them."""
    rng = np.random.default_rng(seed)
    made = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes]
    for each in made[::2]:
        each[each > 127] = 255
        each[: len(each) // 3] = 0
    return made


def boxes(sizes: list[tuple[int, int]], seed: int) -> list[Box]:
    rng = np.random.default_rng(seed)
    drawn = []
    for height, width in sizes:
        left, right = sorted(rng.uniform(0, width, 2))
        top, bottom = sorted(rng.uniform(0, height, 2))
        drawn.append((left, top, min(right + 1, width), min(bottom + 1, height)))
    return drawn


def by_pillow(pixels: np.ndarray, box: Box, size: tuple[int, int], interpolation: str) -> torch.Tensor:
    resized = Image.fromarray(pixels).resize(size[::-1], INTERPOLATIONS[interpolation], box=box)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_it_is_pillow_bit_by_bit(interpolation: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    sizes = [(int(rng.integers(8, 300)), int(rng.integers(8, 300))) for _ in range(40)] + [size, (32, 24), (24, 64)]
    pixels = images(sizes, 2)
    whole: list[Box] = [(0, 0, width, height) for height, width in sizes]
    for rectangles in (whole, boxes(sizes, 3)):
        given = [torch.from_numpy(each).permute(2, 0, 1) for each in pixels]
        made = resample(given, rectangles, size, interpolation)
        for place, (each, box) in enumerate(zip(pixels, rectangles, strict=True)):
            assert torch.equal(made[place], by_pillow(each, box, size, interpolation)), (each.shape, box)


@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_it_is_the_preprocessing_of_a_model(fit: str, interpolation: str) -> None:
    way = Preprocessing(input_size=(48, 56), resize=64, interpolation=interpolation, fit=fit)
    sizes = [(300, 451), (64, 64), (48, 56), (120, 63), (65, 200)]
    pixels = images(sizes, 1)
    made = resample(
        [torch.from_numpy(each).permute(2, 0, 1) for each in pixels],
        [way.view(width, height) for height, width in sizes],
        way.input_size,
        interpolation,
    )
    assert torch.equal(made, torch.stack([way.pixels(Image.fromarray(each)) for each in pixels]))


def test_a_pillow_that_knows_one_order_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As older versions do. Both orders are Pillow's, one axis after the other."""
    (pixels,) = images([(200, 40)], 4)
    given, size, box = [torch.from_numpy(pixels).permute(2, 0, 1)], (32, 32), (0.0, 0.0, 40.0, 200.0)
    way = INTERPOLATIONS["bilinear"]
    expected = Image.fromarray(pixels).resize((32, 200), way).resize((32, 32), way)
    monkeypatch.setattr(resampling, "_orders", lambda: False)
    made = resample(given, [box], size, "bilinear")
    assert torch.equal(made[0], torch.from_numpy(np.array(expected)).permute(2, 0, 1))
