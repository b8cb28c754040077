"""Boxes drawn over a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ouzel_protos.boxes import MOST, Box, draw

GREY = Image.new("RGB", (80, 60), (128, 128, 128))


def changed(drawn: Image.Image) -> np.ndarray:
    return (np.asarray(drawn) != 128).any(axis=2)


def test_a_box_is_where_its_edges_are_whatever_the_size_of_the_picture() -> None:
    whole = draw(GREY, [Box((20, 30, 60, 50), 1, "cat")], (160, 120), labels=False)
    rows, columns = np.nonzero(changed(whole))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 30, 15, 25)
    assert not changed(whole)[20, 20]
    assert not changed(GREY).any()


def test_labels_stay_in_the_picture_and_nothing_fails_at_its_edges() -> None:
    edges = [(0, 0, 160, 120), (150, 110, 160, 120), (-5, -5, 400, 400), (7, 7, 7.2, 7.1)]
    boxes = [
        Box(each, index, "a label that is much longer than the picture is wide" * 3, 0.5)
        for index, each in enumerate(edges)
    ]
    assert draw(GREY, boxes, (160, 120)).size == GREY.size
    assert draw(Image.new("RGB", (1, 1)), boxes, (160, 120)).size == (1, 1)


def test_the_first_boxes_lie_above_and_most_are_drawn() -> None:
    same = (20.0, 30.0, 60.0, 50.0)
    first = draw(GREY, [Box(same, 1, "a"), Box(same, 2, "b")], (160, 120), labels=False)
    assert np.array_equal(first, draw(GREY, [Box(same, 1, "a")], (160, 120), labels=False))
    many = [Box(same, 1, "a")] * MOST
    beyond = [*many, Box((100, 100, 120, 110), 1, "a")]
    assert np.array_equal(draw(GREY, many, (160, 120)), draw(GREY, beyond, (160, 120)))
