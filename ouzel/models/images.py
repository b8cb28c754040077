"""Decoding of images that strangers sent: PNG, JPEG and WebP, with limits checked on the header, before the pixels.

What becomes of the many kinds of pixel:

    grey, 1-bit            L
    16-bit                 the upper 8 bits of each value, as PNG's own 16-bit colours are read
    palette, CMYK, YCCK    RGB
    transparency           laid over white, as most viewers show it
    EXIF orientation       applied; EXIF that cannot be read is ignored
    animations             the first frame (PNG: the default image)
    several pictures in a JPEG (MPO)   the first
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ouzel.errors import InvalidArgument, OuzelError, TooLarge, UnsupportedMedia


@dataclass(frozen=True)
class Limits:
    """What an image may be, in pixels of the file before orientation. `scans`: passes of a progressive JPEG."""

    min_edge: int = 8
    max_edge: int = 4096
    max_aspect: float = 10.0
    max_pixels: int = 4096 * 4096
    max_scans: int = 64  # encoders write about 10; each may cost a walk over the whole picture

    def check(self, width: int, height: int) -> None:
        """Raise InvalidArgument or TooLarge unless an image of this size is welcome."""
        size = f"image: {width} x {height} pixels"
        if max(width, height) > self.max_edge:
            raise TooLarge(f"{size}: the longer edge may have {self.max_edge} at most", field="image")
        if min(width, height) < self.min_edge:
            raise InvalidArgument(f"{size}: the shorter edge must have {self.min_edge} at least", field="image")
        if max(width, height) > self.max_aspect * min(width, height):
            raise InvalidArgument(f"{size}: one edge may be {self.max_aspect:g} times the other at most", field="image")
        if width * height > self.max_pixels:
            raise TooLarge(f"{size}: {self.max_pixels} in all are the limit", field="image")


DEFAULT_LIMITS = Limits()


def decode(data: bytes | bytearray, *, limits: Limits = DEFAULT_LIMITS, smallest: int | None = None) -> Image.Image:
    """The image in a PNG, JPEG or WebP file, as RGB or L, upright.

    `smallest` is the shorter side that the caller will resize to: a much larger JPEG is then decoded at a half, a
    quarter or an eighth of its size, always at least twice `smallest`. `original_size` tells the size before that.
    The format is known by content. Raises InvalidArgument (empty, broken, too small or too narrow), TooLarge or
    UnsupportedMedia, and nothing else, whatever the bytes. How many bytes are too many is for the caller to say.
    """
    if not data:
        raise InvalidArgument("image: is empty", field="image")
    opener = _opener(data)
    try:
        return _decode(opener, data, limits, smallest)
    except OuzelError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every kind on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidArgument(f"image: is broken ({reason:.200})", field="image") from error


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


def plain(image: Image.Image) -> Image.Image:
    """Any image as L or RGB, by the table at the top."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "I":  # what older Pillows make of 16-bit PNG
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    target = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        return canvas.convert(target)
    return image if image.mode == target else image.convert(target)


_ORIGINAL_SIZE = "ouzel_original_size"
_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_UPRIGHT[n] for n in (5, 6, 7, 8)}
_Opener = Callable[[io.BytesIO], ImageFile.ImageFile]


def _opener(data: bytes | bytearray) -> _Opener:
    """Pillow's reader for the format. Not Image.open: it warns, through global state, before limits are checked."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImageFile
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile
    raise UnsupportedMedia("image: is not a PNG, JPEG or WebP file", field="image")


def _decode(opener: _Opener, data: bytes | bytearray, limits: Limits, smallest: int | None) -> Image.Image:
    if opener is WebPImageFile:
        limits.check(*_webp_size(data))  # its reader reserves memory for the whole picture as it opens
    if opener is JpegImageFile and (scans := data.count(b"\xff\xda")) > limits.max_scans:
        raise TooLarge(f"image: a JPEG of {scans} scans; {limits.max_scans} are the limit", field="image")
    with opener(io.BytesIO(data)) as file:
        limits.check(*file.size)
        size = file.size
        if smallest is not None:
            file.draft(None, (2 * smallest, 2 * smallest))  # does nothing but for JPEG
        file.load()
        transpose = _UPRIGHT.get(_orientation(file))
        image = plain(file)
        if image is file:
            image = file.copy()  # without the file's reader, which for WebP holds the picture two times more
    if transpose is not None:
        image = image.transpose(transpose)
        size = size[::-1] if transpose in _SIDEWAYS else size
    image.info = {_ORIGINAL_SIZE: size}
    return image


def _orientation(file: Image.Image) -> int:
    try:
        return int(file.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 many cameras write EXIF that no parser likes; the picture is good nevertheless
        return 1


def _webp_size(data: bytes | bytearray) -> tuple[int, int]:
    """(width, height) from the header of the first chunk (RFC 9649)."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise InvalidArgument("image: is broken (a WebP file that ends in its header)", field="image")
    if kind == b"VP8X":  # 24 bits each, less one
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":  # a signature byte, then 14 bits each, less one
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":  # frame tag, start code, then 14 bits each and 2 of scaling
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise InvalidArgument("image: is broken (a WebP file without a picture)", field="image")
