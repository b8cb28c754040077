"""Regions of targets: from pixels of the uploaded image, as requests have them, to pixels of the model's input."""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from ouzel.errors import InvalidArgument
from ouzel.saliency import Box, Mask, Pixel, Region
from ouzel_protos import tensors
from ouzel_protos.pictures import file_format
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.tensor_pb2 import Tensor

_FIELD = "target.region"


def read(region: pb.Region, view: pb.View, size: tuple[int, int]) -> Region:
    """A region as the engine takes it.

    Args:
        region: In pixels of the uploaded image.
        view: What the model sees of it.
        size: (height, width) of the model's input.

    Raises:
        InvalidArgument: Names what is wrong with it, and the limit.
    """
    match region.WhichOneof("kind"):
        case "box":
            return _box(region.box, view, size)
        case "pixel":
            return _pixel(region.pixel, view, size)
        case "mask":
            return _mask(region.mask, view, size)
    raise InvalidArgument(f"{_FIELD}: give a box, a pixel or a mask", field=_FIELD)


def _box(box: pb.Region.Box, view: pb.View, size: tuple[int, int]) -> Box:
    """All pixels of the input that it touches."""
    field = f"{_FIELD}.box"
    edges = box.left, box.top, box.right, box.bottom
    told = ", ".join(f"{edge:g}" for edge in edges)
    whole = f"{view.image_width} x {view.image_height} pixels"
    if not all(map(math.isfinite, edges)):
        raise InvalidArgument(f"{field}: {told} are not four finite numbers", field=field)
    if not (0 <= box.left < box.right <= view.image_width and 0 <= box.top < box.bottom <= view.image_height):
        raise InvalidArgument(
            f"{field}: left {box.left:g}, top {box.top:g}, right {box.right:g}, bottom {box.bottom:g} is no rectangle "
            f"within the image, which has {whole}",
            field=field,
        )
    height, width = size
    left, right = _touched(box.left, box.right, view.left, view.right, width)
    top, bottom = _touched(box.top, box.bottom, view.top, view.bottom, height)
    if left >= right or top >= bottom:
        raise _unseen(field, f"the box {told}", view)
    return Box(left, top, right, bottom)


def _touched(low: float, high: float, begin: float, end: float, count: int) -> tuple[int, int]:
    """First and last, exclusively, of `count` places from `begin` to `end` that a piece touches."""
    scale = count / (end - begin)
    # What lies on an edge but for rounding does not reach the place behind it.
    first, last = math.floor((low - begin) * scale + 1e-6), math.ceil((high - begin) * scale - 1e-6)
    return max(first, 0), min(last, count)


def _pixel(pixel: pb.Region.Pixel, view: pb.View, size: tuple[int, int]) -> Pixel:
    """The pixel of the input in which its centre lies."""
    field = f"{_FIELD}.pixel"
    if not (0 <= pixel.x < view.image_width and 0 <= pixel.y < view.image_height):
        raise InvalidArgument(
            f"{field}: {pixel.x}, {pixel.y} is not in the image, which has {view.image_width} x {view.image_height} "
            "pixels",
            field=field,
        )
    height, width = size
    x = math.floor((pixel.x + 0.5 - view.left) * width / (view.right - view.left))
    y = math.floor((pixel.y + 0.5 - view.top) * height / (view.bottom - view.top))
    if not (0 <= x < width and 0 <= y < height):
        raise _unseen(field, f"the pixel {pixel.x}, {pixel.y}", view)
    return Pixel(x, y)


def _mask(mask: Tensor, view: pb.View, size: tuple[int, int]) -> Mask:
    """Pixels of the input of which at least half belongs to it."""
    field = f"{_FIELD}.mask"
    try:
        array = tensors.decode(mask)
    except ValueError as error:
        raise InvalidArgument(f"{field}: {error}", field=field) from None
    if array.dtype == np.uint8 and array.ndim == 1:
        array = _from_file(array.tobytes(), view, field)
    elif array.dtype not in (np.uint8, np.bool_) or array.ndim != 2:
        raise InvalidArgument(
            f"{field}: {array.dtype} of shape {array.shape} is neither uint8 or bool (height, width) nor the bytes of "
            "a PNG file",
            field=field,
        )
    _check_size((array.shape[1], array.shape[0]), view, field)
    inside = array != 0
    if not inside.any():
        raise InvalidArgument(f"{field}: the mask is empty: every pixel of it is 0", field=field)
    box = view.left, view.top, min(view.right, view.image_width), min(view.bottom, view.image_height)
    whole = Image.fromarray(inside.astype(np.uint8) * np.uint8(255))
    seen = np.asarray(whole.resize((size[1], size[0]), Image.Resampling.BOX, box=box)) > 127
    if not seen.any():
        raise _unseen(field, "the mask", view)
    return Mask.of(seen)


def _from_file(data: bytes, view: pb.View, field: str) -> npt.NDArray[np.uint8]:
    """The pixels of a PNG file of grey levels."""
    if file_format(data) != "PNG":
        raise InvalidArgument(f"{field}: {len(data)} bytes are not a PNG file", field=field)
    try:
        with PngImageFile(io.BytesIO(data)) as file:
            _check_size(file.size, view, field)  # before pixels are decoded
            if file.mode not in ("1", "L"):
                raise InvalidArgument(
                    f"{field}: a PNG of {_MODES.get(file.mode, file.mode)} does not say what belongs to the region; "
                    "give one of 8 bits grey, or of 1 bit, that is 0 outside",
                    field=field,
                )
            return np.asarray(file.convert("L"))
    except InvalidArgument:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise nearly every kind on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidArgument(f"{field}: the PNG file is broken ({reason:.200})", field=field) from None


_MODES = {
    "P": "a palette (P)",
    "I;16": "16 bits (I;16)",
    "I": "16 bits (I)",
    "RGB": "colours (RGB)",
    "RGBA": "colours (RGBA)",
    "LA": "grey with transparency (LA)",
}


def _check_size(size: tuple[int, int], view: pb.View, field: str) -> None:
    if size != (view.image_width, view.image_height):
        raise InvalidArgument(
            f"{field}: the mask has {size[0]} x {size[1]} pixels, the image {view.image_width} x {view.image_height}",
            field=field,
        )


def _unseen(field: str, what: str, view: pb.View) -> InvalidArgument:
    return InvalidArgument(
        f"{field}: {what} has no pixel that the model sees: it sees {view.left:g} <= x < {view.right:g}, "
        f"{view.top:g} <= y < {view.bottom:g} of the image",
        field=field,
    )
