"""The region that stands for the object, as the audited model sees it."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from ouzel import images
from ouzel.audit.options import Claim
from ouzel.audit.view import View
from ouzel.errors import InvalidArgument

GREY = 127  # of a mask of grey levels: above it is the object
_OPAQUE = 255


def region_of(claim: Claim, view: View, width: int, height: int) -> np.ndarray | None:
    """The object's pixels in the picture that the model sees.

    Args:
        claim: With a mask, boxes, or neither.
        view: Of the audited model.
        width: Of the image, in pixels.
        height: Of the image, in pixels.

    Returns:
        (H, W) of bool, with True and False; None if the claim says nothing of the object.

    Raises:
        InvalidArgument: Mask and boxes are both given; a mask of another size; a box outside of the image; nothing of
            the object, or nothing else, is in the part that the model sees.
    """
    if claim.mask is not None and len(claim.boxes):
        raise InvalidArgument("boxes: give a mask or boxes, not both", field="boxes")
    if claim.mask is not None:
        mask, field = claim.mask, "mask"
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise InvalidArgument(f"mask: {mask.dtype} {mask.shape} is not bool (height, width)", field="mask")
    elif len(claim.boxes):
        mask, field = _drawn(claim, width, height), "boxes"
    else:
        return None
    seen = view.mask(mask, width, height)
    if not seen.any():
        raise InvalidArgument(f"{field}: nothing of the object is in the part that the model sees", field=field)
    if seen.all():
        raise InvalidArgument(
            f"{field}: the object covers all that the model sees; there is no background", field=field
        )
    return seen


def mask_of_file(data: bytes) -> np.ndarray:
    """The mask in an image file.

    Args:
        data: PNG, JPEG or WebP. Colours count as grey levels.

    Returns:
        (height, width) of bool, True above mid-grey.

    Raises:
        InvalidArgument: The file cannot be read as an image; or it has transparent pixels, which some programs mean as
            the object and some as its background.
    """
    mask = np.asarray(images.decode(data).convert("L")) > GREY
    with Image.open(io.BytesIO(data)) as file:
        if file.has_transparency_data and np.asarray(file.convert("RGBA"))[..., 3].min() < _OPAQUE:
            raise InvalidArgument("image: a mask must not be transparent; make it white on the object, black elsewhere")
    return mask


def box_pixels(left: float, top: float, right: float, bottom: float) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches: (left, top, right, bottom), right and bottom one beyond."""
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def _drawn(claim: Claim, width: int, height: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    for number, (left, top, right, bottom) in enumerate(claim.boxes):
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise InvalidArgument(
                f"boxes[{number}]: ({left}, {top}, {right}, {bottom}) is not left < right <= {width}, top < bottom <= "
                f"{height}",
                field=f"boxes[{number}]",
            )
        mask[top:bottom, left:right] = True
    return mask
