"""The images of a data set, read one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ouzel.audit.options import Claim
from ouzel.audit.region import region_of
from ouzel.audit.view import View
from ouzel.canonical import canonical
from ouzel.errors import InvalidArgument, OuzelError
from ouzel.images import decode, original_size


@dataclass(frozen=True, eq=False)
class Example:
    """An image of a data set. Nothing of it is held in memory: it is read when it is needed, more than once.

    Attributes:
        name: Unique in the data set.
        label: What is claimed: the label of the data set, or the decision of a service.
        read: Gives the file. It may raise OSError or OuzelError: the image is then refused.
        mask: Gives (height, width) of bool, of the image's own size, True on the object; None if nobody knows. It may
            raise as `read`.
        boxes: (left, top, right, bottom) in pixels of the image: instead of a mask.
        true_label: What it is, if somebody knows.
        held_out: Whether the model has not learnt from this image.
        service: Who decided.
        time: When, as a text.
    """

    name: str
    label: str
    read: Callable[[], bytes] = field(repr=False)
    mask: Callable[[], np.ndarray] | None = field(default=None, repr=False)
    boxes: Sequence[tuple[int, int, int, int]] = ()
    true_label: str | None = None
    held_out: bool = False
    service: str = ""
    time: str = ""

    @property
    def known(self) -> str:
        """The true label if it is known, else the claimed one."""
        return self.label if self.true_label is None else self.true_label

    def image(self) -> Image.Image:
        """The image. Raises OSError or OuzelError."""
        return decode(self.read())

    def claim(self, label: str, *, scene: bool = False) -> Claim:
        """The claim, with the region if it is known. Raises OSError or OuzelError."""
        mask = None if self.mask is None else self.mask()
        return Claim(label, mask, self.boxes, scene=scene, name=self.name)

    def seen(self, view: View) -> tuple[np.ndarray, np.ndarray | None]:
        """What a model sees of it. Raises OSError or OuzelError.

        Returns:
            (H, W, 3) uint8: the picture. (H, W) of bool: where the object is; None if nobody knows.
        """
        image = self.image()
        return view.picture(image), region_of(self.claim(self.label), view, *original_size(image))


# What may be wrong with one image; the others can still be audited.
UNREADABLE = (OSError, OuzelError)


def checked(examples: Sequence[Example]) -> str:
    """Refuses no examples, and names that are empty or occur twice.

    Returns:
        SHA-256 of names, labels and order, in hex.
    """
    if not examples:
        raise InvalidArgument("examples: there is no image", field="examples")
    seen: set[str] = set()
    for number, example in enumerate(examples):
        if not example.name or example.name in seen:
            raise InvalidArgument(
                f"examples[{number}].name: {example.name!r:.80} is {'used twice' if example.name else 'empty'}",
                field=f"examples[{number}].name",
            )
        seen.add(example.name)
    listed = [[each.name, each.label, each.true_label, each.held_out] for each in examples]
    return hashlib.sha256(canonical({"examples": listed})).hexdigest()
