"""Images of a training as an audit takes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ouzel.audit import dataset
from ouzel.audit.region import box_pixels, mask_of_file
from ouzel.finetune import Example


def audited(image: Example, *, held_out: bool) -> dataset.Example:
    """An image with its label as the claim.

    Args:
        image: Of a data set.
        held_out: Whether the audited model has not learnt from it.
    """
    return dataset.Example(
        image.name,
        image.label,
        image.read,
        _mask(image.read_mask),
        tuple(box_pixels(*box) for box in image.boxes),
        true_label=image.label,
        held_out=held_out,
    )


def has_region(image: Example) -> bool:
    """Whether somebody said where the object is."""
    return image.read_mask is not None or bool(image.boxes)


def _mask(read: Callable[[], bytes] | None) -> Callable[[], np.ndarray] | None:
    """(height, width) of bool, True where the file is above mid-grey."""
    return None if read is None else lambda: mask_of_file(read())
