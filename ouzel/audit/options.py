"""What is claimed of a prediction, and how it is audited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ouzel.audit.evidence import Margins
from ouzel.audit.fills import KINDS
from ouzel.checks import one_of, within
from ouzel.errors import InvalidArgument


@dataclass(frozen=True)
class PredictionOptions:
    """How a prediction is audited; part of its record.

    Attributes:
        fills: Kinds of fills, of "blur", "mean", "texture"; three or more make the evidence strong.
        scenes: Other images of each sort (backgrounds and objects, of other classes and of the same), 0 to 32; they
            need a pool.
        steps: Of the curves of deletion and insertion, 2 to 256; 0 leaves them out.
        random_orders: Random orders that a map is compared with, 1 to 32.
        margins: Fixed beforehand.
        seed: Of all that is drawn, 0 to 2**31 - 1.

    Raises:
        InvalidArgument: A value is out of range.
    """

    fills: tuple[str, ...] = KINDS
    scenes: int = 4
    steps: int = 16
    random_orders: int = 2
    margins: Margins = field(default_factory=Margins)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.fills or len(set(self.fills)) != len(self.fills):
            raise InvalidArgument(f"fills: {self.fills!r:.80} is empty or names a kind twice", field="fills")
        for kind in self.fills:
            one_of("fills", kind, KINDS)
        within("scenes", self.scenes, 0, 32)
        if self.steps != 0:
            within("steps", self.steps, 2, 256)
        within("random_orders", self.random_orders, 1, 32)
        within("margins.effect", self.margins.effect, 0.01, 1)
        within("margins.control", self.margins.control, 0, 1)
        within("seed", self.seed, 0, 2**31 - 1)


@dataclass(frozen=True)
class Claim:
    """What somebody decided about an image.

    Attributes:
        label: The class, as `ouzel.names.label_index` reads it.
        mask: (height, width) of bool, of the image's own size, True on the object; None if nobody knows.
        boxes: (left, top, right, bottom) in pixels of the image, right and bottom one beyond: instead of a mask.
        scene: Whether the class is a place, which may rest on its background.
        reported_map: (height, width), the map that the service sent along, over the whole image.
        name: Of the image in the pool, whose own background and object are not used on itself.
    """

    label: str
    mask: np.ndarray | None = None
    boxes: Sequence[tuple[int, int, int, int]] = ()
    scene: bool = False
    reported_map: np.ndarray | None = None
    name: str = ""
