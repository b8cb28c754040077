"""Search over a data set against sorting everything."""

from __future__ import annotations

import pytest
import torch

from ouzel.errors import InvalidArgument
from ouzel.maximize import Channel, ClassLogit, Pixel, Unit, maximize, search


@pytest.fixture(scope="module")
def images():
    """40 pictures of noise by name, the names not in the order of anything."""
    generator = torch.Generator().manual_seed(0)
    return [(f"{number * 7 % 40:02}", torch.rand(1, 28, 28, generator=generator)) for number in range(40)]


def test_the_best_of_all_in_order(cnn, images):
    with torch.no_grad():
        logits = cnn(torch.stack([image for _, image in images]))
    (ranking,) = search(cnn, [ClassLogit(4)], images, top_k=5)
    slow = sorted(((-float(row[4]), name) for row, (name, _) in zip(logits, images, strict=True)))[:5]
    assert [hit.name for hit in ranking.hits] == [name for _, name in slow]
    assert [hit.activation for hit in ranking.hits] == pytest.approx([-value for value, _ in slow], abs=1e-5)
    assert all(hit.box == (0, 0, 28, 28) for hit in ranking.hits)


def test_parts_merge_to_the_whole(cnn, images):
    nodes = [ClassLogit(1), Channel("conv2", 2)]
    whole = search(cnn, nodes, images, top_k=6)
    first, second = search(cnn, nodes, images[:17], top_k=6), search(cnn, nodes, iter(images[17:]), top_k=6)
    for one, a, b in zip(whole, first, second, strict=True):
        for merged in (a.merge(b, 6), b.merge(a, 6), a.merge(b, 6).merge(a, 6)):
            assert [hit.name for hit in merged.hits] == [hit.name for hit in one.hits]
            assert [hit.box for hit in merged.hits] == [hit.box for hit in one.hits]


def test_equal_activations_go_by_name(cnn):
    grey = torch.full((1, 28, 28), 0.5)
    (ranking,) = search(cnn, [ClassLogit(0)], [("c", grey), ("a", grey), ("b", grey)], top_k=2)
    assert [hit.name for hit in ranking.hits] == ["a", "b"]


def test_the_crop_is_what_the_place_sees(cnn):
    """Two 3 x 3 convolutions see 5 x 5 pixels: the unit at (x, y) those from x to x + 5 and y to y + 5."""
    image = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(1))
    (ranking,) = search(cnn, [Unit("conv2", 3, x=9, y=2)], [("one", image)])
    left, top, right, bottom = ranking.hits[0].box
    assert (left >= 9, top >= 2, right <= 14, bottom <= 7) == (True,) * 4
    assert right - left >= 3
    assert bottom - top >= 3
    bright = torch.zeros(1, 28, 28)
    bright[:, 18:23, 5:10] = torch.rand(5, 5, generator=torch.Generator().manual_seed(2))
    (ranking,) = search(cnn, [Channel("conv1", 0)], [("one", bright)])
    left, top, right, bottom = ranking.hits[0].box
    assert right - left <= 3
    assert bottom - top <= 3


def test_the_best_of_the_data_is_told(cnn, digits):
    data = [(f"{number:04}", digits[0][number]) for number in range(0, 5000, 25)]
    result = maximize(cnn, [ClassLogit(3)], recipe=Pixel(steps=100), size=(28, 28), channels=1, data=data)
    with torch.no_grad():
        best = cnn(torch.stack([image for _, image in data]))[:, 3].max()
    assert result.visualizations[0].best_of_data.activation == pytest.approx(float(best), abs=1e-4)
    assert result.visualizations[0].activation > best


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "at least one image"),
        ([("a", torch.zeros(1, 28, 28)), ("b", torch.zeros(1, 20, 28))], {}, r"b is torch.float32 \(1, 20, 28\)"),
        ([("a", torch.zeros(1, 28, 28, dtype=torch.uint8))], {}, "a is torch.uint8"),
        ([("a", torch.zeros(1, 28, 28))], {"top_k": 0}, r"top_k: 0 is not within 1\.\.10000"),
        ([("a", torch.zeros(1, 28, 28))], {"targets": []}, "at least one node"),
    ],
)
def test_bad_calls(cnn, images, options, message):
    with pytest.raises(InvalidArgument, match=message):
        search(cnn, **{"targets": [ClassLogit(0)], "images": images, **options})
