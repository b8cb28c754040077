"""Pictures with a known object and background, and predictors whose reliance is known because they are made so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ouzel.audit import Source, View

LABELS = ("sheep", "goat", "cow")
EDGE = 48
# Of a class: the colour of its object, and that of the background that it stands before.
OBJECTS = {"sheep": (230, 230, 220), "goat": (150, 100, 60), "cow": (60, 60, 70)}
PLACES = {"sheep": (60, 150, 50), "goat": (150, 145, 140), "cow": (190, 130, 90)}


def mask_of(seed: int) -> np.ndarray:
    """(EDGE, EDGE) of bool: a disc somewhere near the middle."""
    random = np.random.default_rng(seed)
    row, column = random.uniform(0.4, 0.6, 2) * EDGE
    y, x = np.mgrid[:EDGE, :EDGE]
    return (y - row) ** 2 + (x - column) ** 2 < (0.2 * EDGE) ** 2


def scene(label: str, place: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(EDGE, EDGE, 3) uint8, and the mask of its object."""
    mask = mask_of(seed)
    noise = np.random.default_rng(seed).normal(0, 6, (EDGE, EDGE, 3))
    picture = np.where(mask[..., None], OBJECTS[label], PLACES[place]) + noise
    return picture.clip(0, 255).astype(np.uint8), mask


class Stub:
    """Fakes a source: softmax of what a function says of one picture."""

    def __init__(self, logits: Callable[[np.ndarray], np.ndarray], size: int | None = EDGE) -> None:
        self._logits = logits
        self.source = Source("endpoint", "stub")
        self.labels = LABELS
        self.view = View((size, size) if size else None)
        self.asked = 0

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        self.asked += len(pictures)
        logits = np.stack([self._logits(picture) for picture in pictures])
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)


def nearest(colour: np.ndarray, among: dict[str, tuple[int, int, int]]) -> np.ndarray:
    """(K,) logits: how near a colour is to that of each class."""
    return np.array([-np.abs(colour - among[label]).sum() / 10 for label in LABELS])


def by_place(picture: np.ndarray) -> np.ndarray:
    """Looks at the edges of the picture alone, where no object ever is."""
    edges = np.concatenate([picture[:4].reshape(-1, 3), picture[-4:].reshape(-1, 3)])
    return nearest(np.median(edges, axis=0), PLACES)


def by_object(picture: np.ndarray) -> np.ndarray:
    """Looks at the middle of the picture alone, where the object always is."""
    middle = slice(EDGE // 2 - 3, EDGE // 2 + 3)
    return nearest(np.median(picture[middle, middle].reshape(-1, 3), axis=0), OBJECTS)


def by_nothing(picture: np.ndarray) -> np.ndarray:
    """Says the same of everything."""
    return np.array([3.0, 1.0, 0.0])
