"""Regularisers, views, spectra and sheets: each against a plain computation or a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from ouzel.errors import InvalidArgument
from ouzel.maximize import (
    Channel,
    ClassLogit,
    FourierRecipe,
    Hit,
    Maco,
    Ranking,
    Verdict,
    Visualization,
    judge,
    maximize,
    spectrum_of,
)
from ouzel.maximize.regularizers import alikeness, norm, total_variation
from ouzel.maximize.report import gallery, warnings_of, warnings_of_rankings
from ouzel.maximize.spaces import frequencies
from ouzel.maximize.spectrum import BINS, magnitude
from ouzel.maximize.transforms import Views
from ouzel.models import Model, Preprocessing


@pytest.fixture
def images():
    return torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("beta", [1.5, 2.0, 3.0])
def test_total_variation(images, beta):
    for image, variation in zip(images, total_variation(images, beta), strict=True):
        total = 0.0
        for c in range(3):
            for v in range(6):
                for u in range(5):
                    right = image[c, v, u + 1] - image[c, v, u] if u < 4 else 0.0
                    down = image[c, v + 1, u] - image[c, v, u] if v < 5 else 0.0
                    total += float(right**2 + down**2) ** (beta / 2)
        assert float(variation) == pytest.approx(total / (3 * 6 * 5), rel=1e-6)


def test_the_gradient_of_a_flat_image_is_finite():
    flat = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(total_variation(flat, 1.5).sum(), flat)
    assert gradient.isfinite().all()


def test_norm(images):
    slow = [np.mean([abs(2 * value - 1) ** 4 for value in image.flatten().tolist()]) for image in images]
    assert norm(images, 4).tolist() == pytest.approx(slow)
    assert norm(torch.tensor([[[[0.0, 1.0]]], [[[0.5, 0.5]]]])).tolist() == [1, 0]


def test_alikeness_asks_what_not_where_nor_how_much():
    one = torch.rand(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert float(alikeness(torch.cat([one, 2 * one, one.flip(3)]))) == pytest.approx(
        1, abs=1e-6
    )  # where does not matter
    apart = torch.zeros(2, 4, 3, 3)
    apart[0, 0], apart[1, 1] = 1, 1
    assert float(alikeness(apart)) == pytest.approx(0, abs=1e-6)


def test_no_view_is_the_image_itself(images):
    assert Views()(images, torch.Generator()) is images


def test_views_keep_to_their_bounds():
    """A dot in the middle, turned and shifted, stays within the jitter's reach, and comes with the seed."""
    image = torch.full((200, 1, 41, 61), 0.5)
    image[:, :, 20, 30] = 1.0
    views = Views(jitter=0.1, zoom=(0.8, 1.25), rotate=30)
    seen = views(image, torch.Generator().manual_seed(0))
    assert torch.equal(seen, views(image, torch.Generator().manual_seed(0)))
    assert seen.shape == image.shape
    places = [divmod(int(one.argmax()), 61) for one in seen[:, 0].flatten(1)]
    reach = 0.1 * 41 * 1.25 + 1  # zooming in magnifies the shift
    assert all(abs(y - 20) <= reach * 2**0.5 and abs(x - 30) <= reach * 2**0.5 for y, x in places)
    assert len(set(places)) > 10


def test_a_quarter_turn_is_one(monkeypatch):
    image = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    drawn = torch.tensor([[1.0, 1.0, 0.5, 0.5, 0.5]], dtype=torch.float64)  # the largest angle, neither zoom nor shift
    monkeypatch.setattr(torch, "rand", lambda *_, **__: drawn)
    turned = Views(rotate=90)(image, torch.Generator())
    assert any(torch.allclose(turned, torch.rot90(image, k, (2, 3)), atol=1e-5) for k in (1, 3))


def test_frequencies_are_cycles_per_pixel():
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(10.0), indexing="ij")
    wave = torch.cos(2 * math.pi * (2 / 12 * y + 3 / 10 * x))
    strongest = int(torch.fft.rfft2(wave).abs().argmax())
    assert float(frequencies(12, 10).flatten()[strongest]) == pytest.approx(math.hypot(2 / 12, 3 / 10))


def test_the_spectrum_of_noise_is_flat_and_of_a_blur_falls():
    generator = torch.Generator().manual_seed(0)
    noise = [torch.rand(1, 48, 50, generator=generator) for _ in range(4)]
    flat = torch.tensor(spectrum_of(noise))
    assert flat.shape == (1, BINS)
    assert float(flat[:, 2:-2].max() / flat[:, 2:-2].min()) < 1.5
    smooth = torch.tensor(spectrum_of([torch.nn.functional.avg_pool2d(one, 5, 1, 2) for one in noise]))
    assert float(smooth[0, 3] / smooth[0, 20]) > 3


@pytest.mark.parametrize("size", [(16, 16), (7, 12), (33, 20)])
def test_the_magnitude_is_what_the_spectrum_says(size):
    table = ((1.0,) * BINS, tuple(float(BINS - n) for n in range(BINS)))
    values = magnitude(2, *size, table)
    assert values.shape == (2, size[0], size[1] // 2 + 1)
    assert values[0, 0, 0] == values[1, 0, 0] == 0
    assert values[0].flatten()[1:].eq(1).all()
    order = frequencies(*size).flatten()[1:].argsort()
    assert values[1].flatten()[1:][order].diff().max() <= 0


def test_maco_changes_phases_only(cnn):
    """Every image has the magnitudes that were asked for, but for one factor, until the sigmoid."""
    result = maximize(cnn, [ClassLogit(2)], recipe=Maco(steps=20), size=(28, 28), channels=1)
    before_sigmoid = torch.logit(result.visualizations[0].image.double().clamp(1e-3, 1 - 1e-3))
    magnitudes = torch.fft.rfft2(before_sigmoid, norm="ortho").abs().flatten()[1:]
    wanted = magnitude(1, 28, 28).flatten()[1:]
    low = wanted > wanted.quantile(0.8)  # rounding to 8 bits drowns the faint ones
    ratio = magnitudes[low] / wanted[low]
    assert float(ratio.std() / ratio.mean()) < 0.2


def test_sheet_and_page(cnn):
    result = maximize(
        cnn, [ClassLogit(0), Channel("conv2", 1)], recipe=FourierRecipe(steps=1), size=(28, 28), channels=1
    )
    sheet = gallery.sheet(gallery.tiles_of(result.visualizations), columns=1)
    first = np.asarray(sheet)[6 : 6 + 112, 6 : 6 + 112, 0]
    wanted = np.asarray(gallery.picture(result.visualizations[0].image)).repeat(4, 0).repeat(4, 1)
    assert np.array_equal(first, wanted)
    page = gallery.page(gallery.tiles_of(result.visualizations), "<b>")
    assert page.count("<img") == 2
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    with pytest.raises(InvalidArgument, match="no image"):
        gallery.sheet([])


def _found(node, activation, best=None):
    return Visualization(
        node, str(node), torch.rand(1, 28, 28), activation, (0.0, activation), torch.ones(28, 28), best
    )


def test_what_the_network_says_of_an_image_that_was_to_excite_a_class(cnn):
    """Beside the network itself, image by image."""
    labels = tuple(f"<{n}>" for n in range(10))
    preprocessing = Preprocessing(1, (28, 28), 28, mean=(0.5,), std=(0.25,))
    model = Model("m", "1", cnn, labels, preprocessing, "", "sha256:0", {})
    visualizations = [_found(ClassLogit(3), 1.0), _found(ClassLogit("<5>"), -0.5), _found(Channel("conv2", 1), 0.0)]
    verdicts = judge(model, visualizations)
    assert verdicts[2] is None
    for one, verdict, target in zip(visualizations, verdicts, (3, 5), strict=False):
        logits = cnn((one.image[None] - 0.5) / 0.25)[0].detach()
        order = logits.argsort(descending=True).tolist()
        assert verdict.label == labels[order[0]]
        assert verdict.probability == pytest.approx(float(logits.softmax(0).max()), abs=1e-5)
        assert verdict.rank == order.index(target) + 1


def test_warnings_of_what_only_looks_like_success():
    best = Hit("cat.png", 3.0, (0, 0, 28, 28))
    visualizations = [_found(ClassLogit(3), 2.0, best), _found(ClassLogit(4), -1.5), _found(Channel("c", 1), 0.1)]
    lines = warnings_of(visualizations, [Verdict("towel", 0.31, 12), Verdict("cat", 0.9, 1), None])
    assert [("is not above zero" in line, "12th" in line, "cat.png" in line) for line in lines] == [
        (False, True, False),
        (False, False, True),
        (True, False, False),
    ]
    page = gallery.page(gallery.tiles_of(visualizations), "t", recipe={"name": "pixel", "steps": 3}, warnings=lines)
    assert "not above zero" in page
    assert "Best photograph: 3.00, cat.png" in page
    hits = tuple(Hit(str(n), value, (0, 0, 1, 1)) for n, value in enumerate((0.5, 0.0, -1.0)))
    assert warnings_of_rankings([Ranking(Channel("c", 1), "c", hits)]) == [
        "c: 2 of 3 found, the last, with an activation of zero or less: it is not excited there."
    ]
    assert "no image excites it" in warnings_of_rankings([Ranking(Channel("c", 1), "c", hits[2:])])[0]
    assert warnings_of_rankings([Ranking(Channel("c", 1), "c", hits[:1])]) == []


def test_the_part_that_a_node_sees_is_framed_in_the_whole_photograph():
    """A white photograph: what the model does not see is dark, the frame lies where the box is."""
    preprocessing = Preprocessing(3, (32, 32), 32)
    photograph = Image.new("RGB", (1024, 512), "white")
    name = "<script>.png"
    ranking = Ranking(Channel("c", 1), "c", (Hit(name, 1.5, (8, 0, 16, 32)),))
    (tile,) = gallery.crops_of([ranking], {name: torch.ones(3, 32, 32)}, lambda name: photograph, preprocessing)
    drawn = np.asarray(tile.whole).astype(int)
    assert drawn.shape == (256, 512, 3)
    assert tile.image.shape == (3, 32, 8)
    assert drawn[128, 60].max() < 128  # the model sees columns 128 to 384
    assert drawn[128, 140].min() == 255
    yellow = np.flatnonzero((drawn[128, :, 0] == 255) & (drawn[128, :, 2] == 0))
    assert yellow.min() == pytest.approx(128 + 8 * 8, abs=1)
    assert yellow.max() == pytest.approx(128 + 16 * 8 - 1, abs=1)
    page = gallery.page([tile], "t")
    assert "<script" not in page
    assert "&lt;script&gt;.png" in page
    assert "the frame is the part" in page.lower()


def test_channels_beat_photographs(lite0):
    """Channels of an early, a middle and a late layer: the image found excites more than the best of 200 crops."""
    from skimage import data

    generator = np.random.default_rng(0)
    crops = []
    for number in range(200):
        source = (data.astronaut, data.chelsea, data.coffee, data.rocket)[number % 4]()
        edge = int(generator.integers(120, min(source.shape[:2])))
        top, left = (int(generator.integers(0, extent - edge + 1)) for extent in source.shape[:2])
        crop = torch.tensor(source[top : top + edge, left : left + edge] / 255, dtype=torch.float32).permute(2, 0, 1)
        resized = torch.nn.functional.interpolate(crop[None], (224, 224), mode="bilinear", antialias=True)[0]
        crops.append((f"{number:03}", resized.clamp(0, 1)))
    nodes = [Channel("blocks.1", 3), Channel("blocks.3", 10), Channel("blocks.6", 100)]
    result = maximize(lite0, nodes, recipe=FourierRecipe(steps=48), data=crops)
    for each in result.visualizations:
        assert each.activation > each.best_of_data.activation, each.title
