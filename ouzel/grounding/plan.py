"""Which objects come before which backgrounds, so that the background tells nothing of the class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NEUTRAL = "(neutral)"  # a background that belongs to no class


@dataclass(frozen=True)
class Swap:
    """One picture that is made.

    Attributes:
        label: Class of the object.
        image: Number of the image with the object, among those of its class.
        background: Class of the background, or NEUTRAL.
        source: Number of the image with the background, among those of its class; None for the image as it is, and for
            a neutral background.
        number: Of the picture, unique in the plan.
    """

    label: str
    image: int
    background: str
    source: int | None
    number: int


def plan(images: Mapping[str, int], per_class: int, seed: Sequence[int]) -> tuple[Swap, ...]:
    """A set of pictures in which classes and backgrounds are balanced.

    Each class gets `per_class` pictures, and as many before the backgrounds of each class and before neutral ones; the
    numbers differ by one at most. Before the background of their own class images come as they are, once each; then
    before that of another image of the class.

    Args:
        images: How many images with known objects each class has, one at least.
        per_class: Pictures of each class.
        seed: Of what is drawn.

    Returns:
        The pictures, by class and background.
    """
    classes = sorted(images)
    backgrounds = [*classes, NEUTRAL]
    swaps: list[Swap] = []
    for turn, label in enumerate(classes):
        for place, background in enumerate(backgrounds):
            # What cannot be divided goes to other backgrounds for each class.
            more = (place - turn) % len(backgrounds) < per_class % len(backgrounds)
            count = per_class // len(backgrounds) + more
            random = np.random.default_rng([*seed, turn, place])
            objects = _in_turn(random, images[label], count)
            sources = _in_turn(random, images.get(background, 1), count)
            for drawn, (image, other) in enumerate(zip(objects, sources, strict=True)):
                source: int | None = other
                if background == NEUTRAL or (background == label and drawn < images[label]):
                    source = None
                elif background == label and other == image:
                    source = (other + 1) % images[label]
                swaps.append(Swap(label, image, background, source, len(swaps)))
    return tuple(swaps)


def _in_turn(random: np.random.Generator, of: int, count: int) -> list[int]:
    """`count` numbers below `of`, each as often as the others but for one."""
    rounds = [random.permutation(of) for _ in range(-(-count // of))]
    return [int(each) for each in np.concatenate([np.zeros(0, int), *rounds])[:count]]
