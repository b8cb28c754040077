"""Images of a training as an audit takes them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ouzel.audit import dataset
from ouzel.finetune import Example
from ouzel.models.images import decode

_GREY = 127  # of a mask: above it is the object


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
        tuple(_pixels(*box) for box in image.boxes),
        true_label=image.label,
        held_out=held_out,
    )


def has_region(image: Example) -> bool:
    """Whether somebody said where the object is."""
    return image.read_mask is not None or bool(image.boxes)


def _pixels(left: float, top: float, right: float, bottom: float) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches."""
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def _mask(read: Callable[[], bytes] | None) -> Callable[[], np.ndarray] | None:
    """(height, width) of bool, True where the file is above mid-grey."""
    if read is None:
        return None
    return lambda: np.asarray(decode(read()).convert("L")) > _GREY
