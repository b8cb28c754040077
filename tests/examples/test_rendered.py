"""Rendered scenes: the same for the same seed, and labels that are where the objects are."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[2] / "examples" / "rendered"


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import scenes

    yield scenes
    sys.modules.pop("scenes")


def test_a_scene_is_that_of_its_seed_and_number(scenes: ModuleType) -> None:
    first, again, other, seed = (scenes.render(*each, 48) for each in ((3, 5), (3, 5), (3, 6), (4, 5)))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], seed[0])
    assert (first[0].shape, first[0].dtype, first[1].shape, first[1].dtype) == (
        (48, 48, 3),
        np.uint8,
        (48, 48),
        np.uint8,
    )


def test_labels_are_where_objects_are(scenes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects in pure colours, without light, shadow, texture and lens: the label is what most of a pixel shows."""
    kinds: list[int] = []
    drawn, makers = scenes._drawn, dict(scenes.MAKERS)

    def remembered(kind: int):
        def make(chance: np.random.Generator):
            kinds.append(kind)
            return makers[kind](chance)

        return make

    def pure(*arguments):
        colours, shown = drawn(*arguments)
        return np.broadcast_to(255.0 * (np.arange(3) == kinds[-1] - 1), colours.shape), shown

    def halved(_chance: np.random.Generator, picture: np.ndarray, size: int) -> np.ndarray:
        whole = Image.fromarray(picture.astype(np.uint8))
        return np.asarray(whole.resize((size, size), Image.Resampling.BOX))

    monkeypatch.setattr(scenes, "MAKERS", {kind: remembered(kind) for kind in makers})
    monkeypatch.setattr(scenes, "_drawn", pure)
    monkeypatch.setattr(scenes, "_developed", halved)
    monkeypatch.setattr(scenes, "_shade", lambda *_: None)
    monkeypatch.setattr(scenes, "_clutter", lambda *_: None)
    monkeypatch.setattr(scenes, "background", lambda _, edge: np.zeros((edge, edge, 3)))
    seen = set()
    for number in range(12):
        picture, labels = scenes.render(0, number, 48)
        shares = np.concatenate([255 - picture.astype(int).sum(2, keepdims=True), picture.astype(int)], 2)
        own = np.take_along_axis(shares, labels[..., None].astype(int), 2)[..., 0]
        assert (own >= shares.max(2) - 2).all()  # no class has more of the pixel, but for rounding
        seen |= set(labels.flatten().tolist())
    assert seen == {0, 1, 2, 3}
