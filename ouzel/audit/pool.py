"""Other images with known objects: where backgrounds of other classes, and other objects, come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ouzel.audit.fills import cover, smooth


@dataclass(frozen=True, eq=False)
class Scene:
    """An image of known class, with the place of its object.

    Attributes:
        name: Unique in a pool.
        label: Of its class.
        picture: (H, W, 3) uint8.
        mask: (H, W) of bool, True on the object.
    """

    name: str
    label: str
    picture: np.ndarray
    mask: np.ndarray

    def backdrop(self) -> np.ndarray:
        """(H, W, 3) uint8: the picture without its object, whose place is closed with blurred background."""
        return self._backdrop

    @cached_property
    def _backdrop(self) -> np.ndarray:  # a data set asks many times, and to blur takes long
        return np.where(self.mask[..., None], smooth(self.picture, ~self.mask), self.picture)


@dataclass(frozen=True)
class Pool:
    """Scenes to take backgrounds and objects from.

    Attributes:
        scenes: Of any classes.
    """

    scenes: Sequence[Scene] = field(default=(), repr=False)

    def draw(self, label: str, same: bool, count: int, seed: Sequence[int], *, besides: str = "") -> list[Scene]:
        """Draws scenes of a class, or of all others.

        Args:
            label: The class.
            same: Whether scenes of this class are wanted, or those of others, which take turns by class.
            count: How many; fewer where there are no more.
            seed: Of what is drawn.
            besides: Name of a scene that is not to be drawn.
        """
        random = np.random.default_rng(list(seed))
        classes: dict[str, list[Scene]] = {}
        for scene in self.scenes:
            if (scene.label == label) == same and scene.name != besides:
                classes.setdefault(scene.label, []).append(scene)
        queues = [[classes[name][n] for n in random.permutation(len(classes[name]))] for name in sorted(classes)]
        order = [queues[n] for n in random.permutation(len(queues))]
        longest = max((len(queue) for queue in order), default=0)
        turns = [queue[turn] for turn in range(longest) for queue in order if turn < len(queue)]
        return turns[:count]


def on_background(picture: np.ndarray, mask: np.ndarray, scene: Scene) -> np.ndarray:
    """The object of a picture before the background of another scene.

    Args:
        picture: (H, W, 3) uint8.
        mask: (H, W) of bool, the object of `picture`.
        scene: Whose background is taken; its middle, scaled to cover the picture.

    Returns:
        (H, W, 3) uint8. The object stays where it is.
    """
    return np.where(mask[..., None], picture, cover(scene.backdrop(), *mask.shape))


def paste(scene: Scene, picture: np.ndarray, mask: np.ndarray, blurred: np.ndarray | None = None) -> np.ndarray:
    """The object of another scene in the place of this one's.

    Args:
        scene: Whose object is taken.
        picture: (H, W, 3) uint8, whose object goes; its place is closed with blurred background.
        mask: (H, W) of bool, the object of `picture`.
        blurred: (H, W, 3) uint8, the blurred background of `picture`; None makes it.

    Returns:
        (H, W, 3) uint8. The other object is scaled to the same area, around the same centre, and cut off at the edges.
    """
    rows, columns = mask.shape
    top, bottom, left, right = box(scene.mask)
    cut, inside = scene.picture[top:bottom, left:right], scene.mask[top:bottom, left:right]
    scale = min((mask.sum() / inside.sum()) ** 0.5, rows / inside.shape[0], columns / inside.shape[1])
    high, wide = (max(1, round(edge * scale)) for edge in inside.shape)
    cut = cover(np.ascontiguousarray(cut), high, wide)
    grey = np.repeat(np.where(inside, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    inside = cover(grey, high, wide)[..., 0] > 127
    first_row, last_row, first_column, last_column = box(mask)
    row = min(max((first_row + last_row - high) // 2, 0), rows - high)
    column = min(max((first_column + last_column - wide) // 2, 0), columns - wide)
    result = np.where(mask[..., None], smooth(picture, ~mask) if blurred is None else blurred, picture)
    there = result[row : row + high, column : column + wide]
    there[inside] = cut[inside]
    return result


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of what is True; bottom and right are one beyond."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
