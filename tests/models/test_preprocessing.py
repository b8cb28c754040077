from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from ouzel.errors import InvalidArgument
from ouzel.models import Preprocessing

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def _plainly(p: Preprocessing, image: Image.Image) -> torch.Tensor:
    """The usual pipeline, step by step: resize all of it, crop, scale, normalise."""
    width, height = image.size
    if width <= height:
        resized = p.resize, int(p.resize * height / width)
    else:
        resized = int(p.resize * width / height), p.resize
    whole = image.convert("L" if p.channels == 1 else "RGB").resize(resized, _FILTERS[p.interpolation])
    left, top = round((resized[0] - p.input_size[1]) / 2), round((resized[1] - p.input_size[0]) / 2)
    crop = whole.crop((left, top, left + p.input_size[1], top + p.input_size[0]))
    pixels = np.asarray(crop, dtype=np.float64).reshape(*p.input_size, p.channels) / 255
    return torch.from_numpy((pixels - p.mean) / p.std).permute(2, 0, 1).float()


def _assert_same(p: Preprocessing, image: Image.Image, x: torch.Tensor) -> None:
    """Pillow rounds to 8 bits between its horizontal and vertical pass, and picks their order by the sizes: hence a
    grey level or two of difference here and there, and some more where bicubic overshoots and is cut off in between."""
    grey_levels = (x - _plainly(p, image)).abs() * torch.tensor(p.std).view(-1, 1, 1) * 255
    assert grey_levels.max() < (8 if p.interpolation == "bicubic" else 2.1)
    assert grey_levels.mean() < 0.3


PIPELINES = [
    Preprocessing(),
    Preprocessing(interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3),
    Preprocessing(input_size=(96, 160), resize=160),
    Preprocessing(channels=1, input_size=(28, 28), resize=28, mean=(0.1307,), std=(0.3081,)),
]


@pytest.mark.parametrize("p", PIPELINES, ids=str)
@pytest.mark.parametrize("picture", ["chelsea", "coffee", "rocket", "astronaut"])
def test_same_as_resizing_all_and_cropping(p, picture):
    image = Image.fromarray(getattr(data, picture)())
    for turned in (image, image.transpose(Image.Transpose.ROTATE_90)):
        x = p(turned)
        assert (x.shape, x.dtype, x.is_contiguous()) == ((p.channels, *p.input_size), torch.float32, True)
        _assert_same(p, turned, x)


@given(st.integers(8, 700), st.integers(8, 700), st.sampled_from(PIPELINES))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_size_gives_the_same_as_the_plain_way(width, height, p):
    rng = np.random.default_rng(width * 1000 + height)
    small = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    _assert_same(p, image, p(image))


@given(st.integers(8, 4096), st.integers(8, 4096), st.sampled_from(PIPELINES))
@settings(deadline=None, derandomize=True)
def test_view_is_the_centre_of_the_image(width, height, p):
    left, top, right, bottom = p.view(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    pixel = min(width, height) / p.resize  # one pixel of the input, in those of the image
    assert abs(left + right - width) <= 2 * pixel
    assert abs(top + bottom - height) <= 2 * pixel
    assert (bottom - top) / (right - left) == pytest.approx(p.input_size[0] / p.input_size[1], rel=2 / p.resize)


def test_view_in_figures():
    assert Preprocessing().view(256, 256) == (16, 16, 240, 240)
    assert Preprocessing().view(1024, 512) == (288, 32, 736, 480)
    assert Preprocessing(resize=224).view(448, 896) == (0, 224, 448, 672)


def test_one_value_per_channel():
    p = Preprocessing(input_size=(8, 8), resize=8, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    x = p(Image.new("RGB", (20, 10), (255, 0, 51)))
    assert torch.allclose(x[:, 3, 3], torch.tensor([1.0, -1.0, -3.2]))
    assert (x == x[:, :1, :1]).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
@pytest.mark.parametrize("p", PIPELINES, ids=str)
def test_any_mode_of_pillow_is_taken(mode, p):
    assert torch.isfinite(p(Image.new(mode, (300, 200)))).all()


def test_the_image_stays_as_it_was():
    image = Image.fromarray(data.chelsea())
    before = image.tobytes()
    Preprocessing()(image).zero_()
    assert image.tobytes() == before


@pytest.mark.parametrize("p", PIPELINES, ids=str)
def test_dict_and_back(p):
    assert Preprocessing.from_dict(p.to_dict()) == p


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 2},
        {"channels": 1},  # three means
        {"input_size": [224]},
        {"input_size": [0, 224]},
        {"input_size": [224, 5000]},
        {"input_size": 224},
        {"resize": 223},
        {"resize": 10**6},
        {"resize": 256.5},
        {"interpolation": "nearest"},
        {"interpolation": None},
        {"mean": [0.5, 0.5]},
        {"mean": [0.5, 0.5, "0.5"]},
        {"mean": [float("nan"), 0, 0]},
        {"std": [1, 0, 1]},
        {"std": [1, -1, 1]},
        {"std": [1, float("inf"), 1]},
        {"std": None},
    ],
    ids=str,
)
def test_senseless_values_are_refused_by_name(change):
    with pytest.raises(InvalidArgument, match=r"preprocessing\."):
        Preprocessing.from_dict(Preprocessing().to_dict() | change)


@pytest.mark.parametrize("values", [{}, {"resize": 256}, Preprocessing().to_dict() | {"crop": 1}, None, []])
def test_a_dict_with_other_fields_is_refused(values):
    with pytest.raises(InvalidArgument, match="exactly the fields"):
        Preprocessing.from_dict(values)


def test_adapted():
    p = Preprocessing()
    grey = p.adapted(channels=1)
    assert grey.mean == pytest.approx((0.449,))
    assert grey.std == pytest.approx((0.226,))
    assert p.adapted(channels=1, mean=(0.1,), std=(0.3,)).mean == (0.1,)
    assert p.adapted(input_size=(112, 112)).resize == 128
    assert p.adapted(input_size=(112, 112), resize=112).resize == 112
    with pytest.raises(InvalidArgument, match="resize"):
        p.adapted(resize=100)
