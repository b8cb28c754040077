"""Decoding of images that strangers sent: PNG, JPEG and WebP, with limits checked on the header, before the pixels.

`ouzel_protos.pictures` has the rules of what becomes of the many kinds of pixel; the client keeps the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ouzel.errors import InvalidArgument, TooLarge, UnsupportedMedia
from ouzel_protos import pictures


@dataclass(frozen=True)
class Limits:
    """What an image may be, in pixels of the file before orientation.

    Attributes:
        min_edge: The least of either edge.
        max_edge: The most of either edge of what is decoded.
        max_aspect: The most that the longer edge may be of the shorter one.
        max_pixels: Of what is decoded.
        max_jpeg_pixels: Of the file of a JPEG that is decoded at a fraction of its size (see `decode`); it may have any
            edges, as long as that fraction has no more than `max_pixels`.
        max_scans: Passes of a progressive JPEG.
        max_held: Bytes that such a JPEG may take to decode, which are those of its full size.
    """

    min_edge: int = 8
    max_edge: int = 4096
    max_aspect: float = 10.0
    max_pixels: int = 4096 * 4096
    max_jpeg_pixels: int = 100_000_000
    max_scans: int = 64  # encoders write about 10; each may cost a walk over the whole picture
    max_held: int = 4096 * 4096 * 3 * 2  # three components at full resolution, two bytes each

    def check(self, width: int, height: int) -> None:
        """Raise InvalidArgument or TooLarge unless an image of this size is welcome."""
        self._check_shape(width, height, self.max_edge)
        if width * height > self.max_pixels:
            raise TooLarge(f"{_size(width, height)}: {self.max_pixels} in all are the limit", field="image")

    def check_file(self, header: pictures.Header) -> None:
        """The same for a file, by its header."""
        width, height = header.width, header.height
        if header.decoded == (width, height):
            self.check(width, height)
        else:
            self._check_shape(width, height, width + height)
            if width * height > self.max_jpeg_pixels:
                raise TooLarge(
                    f"{_size(width, height)}: {self.max_jpeg_pixels} in all are the limit of a JPEG", field="image"
                )
            if (pixels := header.decoded[0] * header.decoded[1]) > self.max_pixels:
                raise TooLarge(
                    f"{_size(width, height)}: {pixels} of them would be decoded, {self.max_pixels} are the limit",
                    field="image",
                )
        if header.scans > self.max_scans:
            raise TooLarge(f"image: a JPEG of {header.scans} scans; {self.max_scans} are the limit", field="image")
        if header.held > self.max_held:
            raise TooLarge(
                f"{_size(width, height)}: this progressive JPEG takes {header.held} bytes to decode, the limit is "
                f"{self.max_held}; save it smaller, or as a baseline JPEG",
                field="image",
            )

    def _check_shape(self, width: int, height: int, max_edge: int) -> None:
        if max(width, height) > max_edge:
            raise TooLarge(f"{_size(width, height)}: the longer edge may have {max_edge} at most", field="image")
        if min(width, height) < self.min_edge:
            raise InvalidArgument(
                f"{_size(width, height)}: the shorter edge must have {self.min_edge} at least", field="image"
            )
        if max(width, height) > self.max_aspect * min(width, height):
            raise InvalidArgument(
                f"{_size(width, height)}: one edge may be {self.max_aspect:g} times the other at most", field="image"
            )


DEFAULT_LIMITS = Limits()


def decode(data: bytes | bytearray, *, limits: Limits = DEFAULT_LIMITS, smallest: int | None = None) -> Image.Image:
    """Decode a PNG, JPEG or WebP file; the format is known by its content.

    How many bytes are too many is for the caller to say.

    Args:
        data: The file.
        limits: What the image may be.
        smallest: The shorter side in pixels that the caller will resize to. A much larger JPEG is then decoded at a
            half, a quarter or an eighth of its size, always at least twice `smallest`; `original_size` tells the size
            before that.

    Returns:
        The image as RGB or L, upright.

    Raises:
        InvalidArgument: Empty, broken, too small or too narrow. Nothing but this, TooLarge and UnsupportedMedia is
            raised, whatever the bytes.
        TooLarge: More pixels than the limits allow.
        UnsupportedMedia: Another format.
    """
    if not data:
        raise InvalidArgument("image: is empty", field="image")
    if not pictures.file_format(data):
        raise UnsupportedMedia("image: is not a PNG, JPEG or WebP file", field="image")
    try:
        image, size = pictures.decode(data, smallest=smallest, welcome=limits.check_file)
    except pictures.BadPicture as error:
        raise InvalidArgument(f"image: {error}", field="image") from error
    image.info = {_ORIGINAL_SIZE: size}
    return image


def size_of_plain_jpeg(
    data: bytes | bytearray, *, limits: Limits = DEFAULT_LIMITS, smallest: int | None = None
) -> tuple[int, int] | None:
    """(width, height) of a file that another decoder than `decode` may read as well; else None: `decode` it.

    Arguments as those of `decode`. See `ouzel_protos.pictures.size_of_plain_jpeg`.
    """
    return pictures.size_of_plain_jpeg(data, smallest=smallest, welcome=limits.check_file)


def from_array(pixels: np.ndarray, *, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Decoded pixels, uint8 (H, W), (H, W, 1) or (H, W, 3), as an image. Raises InvalidArgument or TooLarge."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise InvalidArgument(f"image: {pixels.dtype} {pixels.shape} is not uint8 (H, W) or (H, W, 3)", field="image")
    limits.check(pixels.shape[1], pixels.shape[0])
    return Image.fromarray(np.ascontiguousarray(pixels))


def original_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) that an image from `decode` has in its file, upright; of any other image its own size."""
    size = image.info.get(_ORIGINAL_SIZE, image.size)
    return size[0], size[1]


def scaled(box: tuple[float, float, float, float], image: Image.Image) -> tuple[float, float, float, float]:
    """A rectangle of the image as it is in its file, in pixels of the image as `decode` made it, perhaps smaller."""
    width, height = original_size(image)
    x, y = image.width / width, image.height / height
    left, top, right, bottom = box
    return left * x, top * y, min(right * x, image.width), min(bottom * y, image.height)


def plain(image: Image.Image) -> Image.Image:
    """Any image as L or RGB, by the rules. Raises InvalidArgument for one whose values nobody can read."""
    try:
        return pictures.plain(image)
    except pictures.BadPicture as error:
        raise InvalidArgument(f"image: {error}", field="image") from None


_ORIGINAL_SIZE = "ouzel_original_size"


def _size(width: int, height: int) -> str:
    return f"image: {width} x {height} pixels"
