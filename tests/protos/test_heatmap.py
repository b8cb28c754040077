"""The picture of a map: colours that order values as the values are ordered, and a blend that leaves nothing alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ouzel_protos import heatmap

maps = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements={"min_value": -100, "max_value": 100},
)


def luminance(colours: np.ndarray) -> np.ndarray:
    """Relative luminance (ITU-R BT.709) of sRGB colours (..., 3)."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


@given(maps)
def test_any_map_has_a_picture(values):
    picture = heatmap.colorize(values)
    assert picture.shape == (*values.shape, 3)
    assert picture.dtype == np.uint8


@given(maps, st.floats(0, 1))
def test_where_the_map_is_zero_the_picture_shows_in_grey_and_in_order(values, alpha):
    image = np.random.default_rng(0).integers(0, 256, (*values.shape, 3), dtype=np.uint8)
    zero = ~np.isfinite(values) | (values == 0)
    drawn = heatmap.blend(image, values, alpha)[zero].astype(int)
    assert (drawn == drawn[:, :1]).all()
    light = image[zero] @ (0.299, 0.587, 0.114)
    assert (np.diff(drawn[np.argsort(light), 0]) >= -1).all()
    painted = heatmap.paint(image, values, alpha)
    assert (painted[zero] == image[zero]).all()


@given(maps, st.sampled_from([0.125, 2.0, 64.0]))
def test_the_unit_of_the_values_does_not_matter(values, factor):
    wide = values.astype(np.float64)
    wide[np.abs(wide) < 1e-300] = 0  # a change of unit may round such a value to zero: then it is another map
    assert (heatmap.colorize(wide * factor) == heatmap.colorize(wide)).all()


def test_larger_values_are_lighter_and_steps_look_alike():
    light = luminance(heatmap.colorize(np.linspace(0, 1, 1000)[None]))[0]
    assert (np.diff(light) >= -1e-3).all()
    lightness = np.cbrt(light)  # as seen, to a good approximation
    halves = np.diff(lightness[[0, 500, 999]])
    assert 0.7 < halves[0] / halves[1] < 1.4


def test_a_signed_map_is_blue_below_zero_and_red_above_and_as_dark_on_both_sides():
    colours = heatmap.colorize(np.linspace(-1, 1, 1001)[None])[0].astype(int)
    assert colours[0, 2] > colours[0, 0] + 60
    assert colours[-1, 0] > colours[-1, 2] + 60
    light = luminance(colours)
    assert light.argmax() == pytest.approx(500, abs=5)
    assert light[0] == pytest.approx(light[-1], abs=0.03)


def test_one_outlier_does_not_darken_the_rest():
    values = np.ones((40, 40))
    values[0, 0] = 1e6
    assert (heatmap.colorize(values) == heatmap.colorize(np.ones((40, 40)))).all()


def test_a_frame_of_zeros_changes_nothing_inside():
    values = np.random.default_rng(1).random((8, 8)) + 0.1
    framed = np.pad(values, 20)
    assert (heatmap.colorize(framed)[20:-20, 20:-20] == heatmap.colorize(values)).all()


def test_alpha_bounds_the_opacity():
    image = np.zeros((4, 4, 3), np.uint8)
    values = np.ones((4, 4))
    assert (heatmap.blend(image, values, 1.0) == heatmap.colorize(values)).all()
    assert (heatmap.paint(image, values, 0.0) == image).all()
    assert (heatmap.paint(image, values, 0.5) == np.rint(heatmap.colorize(values) / 2)).all()


@pytest.mark.parametrize(
    ("image", "values", "alpha", "named"),
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5)), 0.5, "image"),
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4)), 0.5, "image"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((3, 4, 4)), 0.5, "values"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), 1.5, "alpha"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), float("nan"), "alpha"),
    ],
)
def test_what_does_not_fit_is_named(image, values, alpha, named):
    with pytest.raises(ValueError, match=f"^{named}: "):
        heatmap.blend(image, values, alpha)
