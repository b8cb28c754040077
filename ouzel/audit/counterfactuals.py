"""Pictures that differ from the audited one in one thing, and their controls, which differ in as many pixels.

| change | what is replaced | its control |
|---|---|---|
| `background` | the background, by a fill or by the background of another class | `rearranged`, `same_background` |
| `object` | the object, by a fill | `elsewhere` |
| `other_object` | the object, by an object of another class | `same_object` |

- `rearranged`: every pixel of the background is replaced by another pixel of the same background. What is there stays,
  where it is changes.
- `elsewhere`: a part of the background is replaced that has the shape of the object.
- `same_background`, `same_object`: from other images of the same class, as "mixed-same" of ImageNet-9.

References:
    Xiao et al. 2020, "Noise or signal: the role of image backgrounds in object recognition", arXiv 2006.09994.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ouzel.audit.fills import Fill, smooth
from ouzel.audit.pool import Scene, on_background, paste

Change = Literal["background", "object", "other_object", "rearranged", "elsewhere", "same_background", "same_object"]
# The controls of each change that is tested; there may be none of a kind.
CONTROLS: dict[Change, tuple[Change, ...]] = {
    "background": ("rearranged", "same_background"),
    "object": ("elsewhere",),
    "other_object": ("same_object",),
}
REARRANGED = 3  # controls of a replaced background
SMALLEST, LARGEST = 0.005, 0.9  # share of the picture that an object may have for a verdict


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """A changed picture.

    Attributes:
        change: What is replaced, or by which control.
        kind: Of the fill; "scene" where another image is the source; "" for "rearranged".
        fill: Name of the fill or of the other image; of "rearranged" its number.
        picture: (H, W, 3) uint8.
        changed: How many pixels are replaced.
    """

    change: Change
    kind: str
    fill: str
    picture: np.ndarray
    changed: int

    @property
    def name(self) -> str:
        """Unique within an audit: "background/grass"."""
        return f"{self.change}/{self.fill}"


@dataclass(frozen=True)
class Others:
    """Other images that an audit draws from; any of these may be empty.

    Attributes:
        backgrounds: Of other classes.
        same_backgrounds: Of the claimed class.
        objects: Of other classes.
        same_objects: Of the claimed class.
    """

    backgrounds: Sequence[Scene] = ()
    same_backgrounds: Sequence[Scene] = ()
    objects: Sequence[Scene] = ()
    same_objects: Sequence[Scene] = ()


def counterfactuals(
    picture: np.ndarray, mask: np.ndarray, fills: Sequence[Fill], others: Others = Others()
) -> tuple[Counterfactual, ...]:
    """All changed pictures of one picture, in a fixed order.

    Args:
        picture: (H, W, 3) uint8.
        mask: (H, W) of bool, True on the object; both sides have a pixel at least.
        fills: How pixels are replaced.
        others: Images that backgrounds and objects are taken from.

    Returns:
        The controls of a replaced background, three pictures for each fill, and one for each other image.
    """
    background, shifted = ~mask, elsewhere(mask)
    area, around = int(mask.sum()), int(background.sum())
    blurred = smooth(picture, background)  # several need it, and it takes long
    made = [
        Counterfactual("rearranged", "", str(number), rearranged(picture, mask, number, blurred), around)
        for number in range(REARRANGED)
    ]
    regions: tuple[tuple[Change, np.ndarray], ...] = (
        ("background", background),
        ("object", mask),
        ("elsewhere", shifted),
    )
    for fill in fills:
        paint = fill.paint(picture, blurred)
        made += [
            Counterfactual(change, fill.kind, fill.name, np.where(region[..., None], paint, picture), int(region.sum()))
            for change, region in regions
        ]
    scenes: tuple[tuple[Change, Sequence[Scene]], ...] = (
        ("background", others.backgrounds),
        ("same_background", others.same_backgrounds),
    )
    for change, drawn in scenes:
        for scene in drawn:
            placed = on_background(picture, mask, scene)
            made.append(Counterfactual(change, "scene", scene.name, placed, around))
    objects: tuple[tuple[Change, Sequence[Scene]], ...] = (
        ("other_object", others.objects),
        ("same_object", others.same_objects),
    )
    for change, drawn in objects:
        for scene in drawn:
            pasted = paste(scene, picture, mask, blurred)
            made.append(Counterfactual(change, "scene", scene.name, pasted, area))
    return tuple(made)


def elsewhere(mask: np.ndarray) -> np.ndarray:
    """The object's shape, moved to where it covers as little of the object as possible.

    The picture is taken as a torus; of several places the farthest one counts. Pixels of the object are left out.

    Args:
        mask: (H, W) of bool.

    Returns:
        (H, W) of bool, without a pixel of the mask. It has as many pixels as the mask if there is room.
    """
    return away(mask, mask) & ~mask


def away(region: np.ndarray, avoid: np.ndarray) -> np.ndarray:
    """The region, moved to where it overlaps least with what is to be avoided; of several places the farthest.

    Args:
        region: (H, W) of bool.
        avoid: (H, W) of bool.

    Returns:
        (H, W) of bool. The picture is taken as a torus.
    """
    rows, columns = region.shape
    spectrum = np.fft.rfft2(region.astype(np.float64)).conj() * np.fft.rfft2(avoid.astype(np.float64))
    overlap = np.fft.irfft2(spectrum, s=region.shape).round()
    down, right = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    far = np.minimum(down, rows - down) / rows + np.minimum(right, columns - right) / columns
    shift = np.unravel_index(np.where(overlap == overlap.min(), far, -1.0).argmax(), region.shape)
    return np.roll(region, (int(shift[0]), int(shift[1])), (0, 1))


def rearranged(picture: np.ndarray, mask: np.ndarray, number: int, blurred: np.ndarray | None = None) -> np.ndarray:
    """The picture with its background in another order, and the object where it was.

    Pixels come from mirrored and shifted copies of the background, the first copy that has background at a place; where
    none has, from the blurred background.

    Args:
        picture: (H, W, 3) uint8.
        mask: (H, W) of bool, True on the object.
        number: 0, 1, ...: which copy comes first.
        blurred: (H, W, 3) uint8, the blurred background; None makes it.

    Returns:
        (H, W, 3) uint8.
    """
    rows, columns = mask.shape
    result = smooth(picture, ~mask) if blurred is None else blurred.copy()
    copies = [
        lambda a: a[:, ::-1],
        lambda a: np.roll(a[:, ::-1], columns // 2, axis=1),
        lambda a: np.roll(a, (rows // 2, columns // 2), (0, 1)),
        lambda a: np.roll(a, columns // 3, axis=1),
        lambda a: np.roll(a[::-1], rows // 2, axis=0),
        lambda a: a[::-1, ::-1],
    ]
    missing = np.ones_like(mask)
    for copy in copies[number % len(copies) :] + copies[: number % len(copies)]:
        take = missing & ~copy(mask)
        result[take] = copy(picture)[take]
        missing &= ~take
    return np.where(mask[..., None], picture, result)
