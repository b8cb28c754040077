"""What is drawn over a photograph: where, how large, and nothing that the map does not say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ouzel.saliency.request import METHODS
from ouzel_protos import heatmap, methods, overlay

RNG = np.random.default_rng(3)


def test_the_names_of_methods_are_those_of_the_library() -> None:
    assert set(methods.METHODS) == set(METHODS)


@pytest.mark.parametrize(("cells", "length"), [(7, 224), (14, 224), (9, 96), (2, 32), (56, 224), (10, 299)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_map_of_a_layer_is_drawn_from_its_cells(cells, length, dtype):
    """However it was widened, the picture is the bicubic one of the cells themselves."""
    few = RNG.random((cells, cells)).astype(np.float32)
    wide = F.interpolate(torch.from_numpy(few)[None, None], (length, length), mode="bilinear", align_corners=False)
    shown = overlay.field(wide[0, 0].numpy().astype(dtype), (500, 400), "grad_cam")
    largest = wide.max().item()
    expected = np.asarray(Image.fromarray(few / largest).resize((500, 400), Image.Resampling.BICUBIC))
    expected = expected.clip(wide.min().item() / largest, 1)  # never beyond the map's range
    assert np.abs(shown - expected).max() < (0.05 if dtype == np.float16 else 0.01)


@pytest.mark.parametrize("method", ["grad_cam", "gradient"])
def test_no_map_gets_signs_by_the_way_it_is_drawn(method):
    few = np.zeros((7, 7), np.float32)
    few[3, 3] = few[4, 4] = 1.0
    wide = F.interpolate(torch.from_numpy(few)[None, None], (224, 224), mode="bilinear", align_corners=False)
    assert overlay.field(wide[0, 0].numpy(), (451, 451), method).min() >= 0


def test_a_map_that_was_not_widened_keeps_its_pixels():
    values = RNG.random((32, 48)).astype(np.float32)
    shown = overlay.field(values, (48, 32), "occlusion")
    assert np.allclose(shown, values / values.max(), atol=1e-6)


def test_a_map_of_pixels_is_smoothed_by_a_gaussian():
    values = np.zeros((250, 250), np.float32)
    values[100, 120] = 5.0
    shown = overlay.field(values, (250, 250), "gradient").astype(np.float64)
    y, x = np.mgrid[:250, :250]
    expected = np.exp(-((y - 100) ** 2 + (x - 120) ** 2) / (2 * 2.75**2))  # 1.1 % of 250 pixels
    assert np.abs(shown / shown.sum() - expected / expected.sum()).max() < 1e-4


@pytest.mark.parametrize("method", ["gradient", "grad_cam"])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_nothing_is_drawn_beyond_the_range_of_the_map(method, scale):
    values = (RNG.random((20, 20)) * scale).astype(np.float32)
    values[3, 4] = np.nan
    shown = overlay.field(values, (77, 55), method)
    assert shown.shape == (55, 77)
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert not overlay.field(np.zeros((5, 5)), (7, 9), method).any()


def test_the_map_lies_on_the_view_and_the_rest_is_faded_and_grey():
    picture = Image.fromarray(RNG.integers(0, 256, (60, 90, 3), dtype=np.uint8))
    drawn = np.asarray(overlay.draw(picture, np.ones((10, 10)), view=(30, 10, 60, 40), size=(180, 120))).astype(int)
    assert drawn.shape == (120, 180, 3)
    inside = np.zeros((120, 180), bool)
    inside[20:80, 60:120] = True
    coloured = np.ptp(drawn, axis=2) > 0
    assert (coloured == inside).all()
    assert (drawn[19:81, 59] == drawn[59, 59]).all()  # the frame: a line at each side
    inside[19:81, 59:121] = True
    far = drawn[~inside]
    assert np.ptp(far) < 0.4 * np.ptp(np.asarray(picture.convert("L")))
    whole = np.asarray(overlay.draw(picture, np.ones((10, 10))))
    assert whole.shape == (60, 90, 3)


def test_signs_keep_their_colours_and_zero_has_none():
    picture = Image.new("L", (90, 30), 128)
    values = np.repeat(np.repeat([[-1.0, 0.0, 1.0]], 10, axis=1), 10, axis=0)
    drawn = np.asarray(overlay.draw(picture, values, method="occlusion")).astype(int)
    against, nothing, much = drawn[15, 5], drawn[15, 45], drawn[15, 85]
    assert against[2] > against[0] + 40
    assert much[0] > much[2] + 40
    assert np.ptp(nothing) == 0


def test_the_scale_runs_from_nothing_to_much():
    for signed, middle in ((False, 0), (True, 100)):
        colours = np.asarray(overlay.bar(201, 5, signed)).astype(int)
        assert np.ptp(colours[2, middle]) == 0
        assert np.ptp(colours[2, -60]) > 40
        assert (np.ptp(colours[2, 20]) > 40) == signed


@pytest.mark.parametrize(
    ("picture", "view", "values", "longest", "size"),
    [
        ((451, 300), (94, 19, 357, 281), (224, 224), 2048, (451, 300)),
        ((64, 64), (4, 4, 60, 60), (224, 224), 2048, (256, 256)),  # a tiny one is enlarged to the map's resolution
        ((6000, 4000), (1250, 250, 4750, 3750), (224, 224), 2048, (2048, 1365)),
        ((90, 60), (0, 0, 90, 60), (60, 90), 45, (45, 30)),
    ],
)
def test_sizes(picture, view, values, longest, size):
    assert overlay.enlarged(picture, view, values, longest) == size


def test_every_method_that_gives_a_map_of_pixels_is_known_as_one():
    layers = {"grad_cam", "grad_cam_plus_plus", "layer_cam"}
    covering = {"occlusion", "rise"}
    assert set(METHODS) - layers - covering == overlay.PIXELWISE


def test_colours_do_not_depend_on_the_unit():
    values = RNG.random((12, 12)).astype(np.float32)
    picture = Image.new("RGB", (24, 24), "grey")
    one, other = (np.asarray(overlay.draw(picture, values * unit)) for unit in (1.0, 1024.0))
    assert (one == other).all()
    assert heatmap.scale(np.arange(1, 101)) == pytest.approx(99.01)
