"""From a file, or a PIL image, to 8-bit grey or colour: one set of rules for the client and for the services.

What becomes of the many kinds of pixel:

    grey, 1-bit            L
    16-bit (I;16 in any byte order; I within 0..65535)   L: the upper 8 bits of each value, as PNG's 16-bit colours
    palette, CMYK, YCCK, YCbCr, HSV, RGBX   RGB
    transparency           laid over white, as most viewers show it
    EXIF orientation       applied; EXIF that cannot be read is ignored
    animations             the first frame (PNG: the default image)
    several pictures in a JPEG (MPO)   the first

These modes are refused: F, I with values outside of 0..65535, and I of small values only, because their range is not
known; and LAB, because it needs a colour profile. Pillow is imported when a picture is handed over, and not earlier.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ouzel_protos.picture_headers import jpeg_coefficients, webp_size

if TYPE_CHECKING:
    from PIL import Image as PILImage
    from PIL.ImageFile import ImageFile

_ORIENTATION = 0x0112  # the EXIF tag
_GREY = ("1", "L", "LA", "La")
_SIXTEEN = ("I;16", "I;16B", "I;16L", "I;16N")
_RAW_KEYS = {"L;2": 85, "L;4": 17}  # Pillow widens these pixels to 8 bits, and forgets the colour declared transparent


class BadPicture(ValueError):
    """A picture that cannot be read by the rules. The message says why, in one line, and names no field."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        format: PNG, JPEG or WEBP.
        width: In pixels, before orientation.
        height: In pixels, before orientation.
        decoded: (width, height) at which it will be read.
        scans: Of a JPEG; some may be of thumbnails.
        held: Bytes that a JPEG of several scans (a progressive one) takes to decode at any size; 0 for other files.
    """

    format: str
    width: int
    height: int
    decoded: tuple[int, int]
    scans: int = 0
    held: int = 0


def file_format(data: bytes | bytearray) -> str:
    """PNG, JPEG or WEBP, by content; "" for anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return ""


def decode(
    data: bytes | bytearray, *, smallest: int | None = None, welcome: Callable[[Header], None] | None = None
) -> tuple[PILImage.Image, tuple[int, int]]:
    """Decodes a PNG, JPEG or WebP file.

    Args:
        data: The file.
        smallest: The shorter side that the caller will resize to. A much larger JPEG is then decoded at a half, a
            quarter or an eighth of its size, always at least twice `smallest`.
        welcome: Hears of the header before pixels are decoded, and may raise.

    Returns:
        The image, L or RGB, and (width, height) in the file; both upright.

    Raises:
        BadPicture: The file cannot be read.
    """
    try:
        return _decode(data, smallest, welcome)
    except BadPicture:
        raise
    except _Unwelcome as refusal:
        raise refusal.cause from None
    except Exception as error:  # Pillow's decoders raise nearly every kind on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadPicture(f"is broken ({reason:.200})") from error


def size_of_plain_jpeg(
    data: bytes | bytearray, *, smallest: int | None = None, welcome: Callable[[Header], None] | None = None
) -> tuple[int, int] | None:
    """Whether any decoder reads a file as `decode` does, but for rounding: a whole baseline JPEG of upright colours.

    Args:
        data: The file.
        smallest: As of `decode`, which must not scale the file for it.
        welcome: As of `decode`.

    Returns:
        (width, height); None for any other file, and for one that is not welcome: `decode` says what is wrong with it.
    """
    if file_format(data) != "JPEG" or not data.endswith(b"\xff\xd9"):
        return None
    try:
        with _reader("JPEG")(io.BytesIO(data)) as file:
            size = file.size
            if smallest is not None:
                file.draft(None, (2 * smallest, 2 * smallest))
            adobe = file.info.get("adobe_transform")
            colours = adobe == 1 or (adobe is None and "jfif" in file.info)  # else they may be RGB as they are
            if file.size != size or file.mode != "RGB" or not colours or _transpose(file) is not None:
                return None
            if (scans := data.count(b"\xff\xda")) != 1 or jpeg_coefficients(data):
                return None
            if welcome is not None:
                welcome(Header("JPEG", *size, size, scans))
    except Exception:  # noqa: BLE001 - Pillow raises nearly every kind on broken files; `decode` tells it
        return None
    return size


def plain(image: PILImage.Image) -> PILImage.Image:
    """Any image as L or RGB, by the table at the top; the image itself if it is one. Raises BadPicture."""
    from PIL import Image

    if image.mode in _SIXTEEN or image.mode == "I":
        return Image.fromarray(_upper_byte(image))
    if image.mode == "F":
        raise BadPicture(
            "mode F: nobody knows the range of its values; convert it to 8 bits (mode L) or 16 bits (mode I;16)"
        )
    if image.mode == "LAB":
        raise BadPicture("mode LAB: convert it to RGB by its colour profile (PIL.ImageCms)")
    target = "L" if image.mode in _GREY else "RGB"
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        return canvas.convert(target)
    return image if image.mode == target else image.convert(target)


def upright(image: PILImage.Image) -> PILImage.Image:
    """An image as its EXIF orientation says; the image itself if that says nothing."""
    transpose = _transpose(image)
    return image if transpose is None else image.transpose(transpose)


def shown_size(data: bytes | bytearray) -> tuple[int, int]:
    """(width, height) of a file's picture as it is shown, from a caller's own disk: limits are not checked."""
    try:
        with _reader(file_format(data))(io.BytesIO(data)) as file:
            return file.size[::-1] if _transpose(file) in _sideways() else file.size
    except BadPicture:
        raise
    except Exception as error:  # Pillow raises nearly every kind on broken files
        raise BadPicture(f"is broken ({error!s:.200})") from error


def encode(image: PILImage.Image) -> bytes:
    """A PNG file of an image, upright and plain; `decode` gives the same image. Raises BadPicture."""
    out = io.BytesIO()
    try:
        # The pixels alone: an orientation or a transparent colour that stayed with them would be applied again.
        bare = upright(plain(image)).copy()
        bare.info = {}
        bare.save(out, "PNG", compress_level=1, exif=b"")
    except BadPicture:
        raise
    except Exception as error:  # a lazily opened image may be broken; Pillow raises nearly every kind
        raise BadPicture(f"cannot be written as PNG ({error})") from error
    return out.getvalue()


class _Unwelcome(Exception):
    def __init__(self, cause: Exception) -> None:
        self.cause = cause


def _decode(
    data: bytes | bytearray, smallest: int | None, welcome: Callable[[Header], None] | None
) -> tuple[PILImage.Image, tuple[int, int]]:
    from PIL import Image

    kind = file_format(data)
    if kind == "WEBP":
        _meet(welcome, Header(kind, *webp_size(data), webp_size(data)))  # its reader reserves all memory as it opens
    with _reader(kind)(io.BytesIO(data)) as file:
        size = file.size
        if smallest is not None:
            file.draft(None, (2 * smallest, 2 * smallest))  # does nothing but for JPEG
        held = jpeg_coefficients(data) if kind == "JPEG" else 0
        scans = data.count(b"\xff\xda") if kind == "JPEG" else 0
        _meet(welcome, Header(kind, *size, file.size, scans, held))
        raw = str(file.tile[0].args) if file.tile and isinstance(file.tile[0].args, str) else ""
        file.load()
        _mend_transparency(file, raw)
        transpose = _transpose(file)
        image: Image.Image = plain(file)
        if image is file and kind != "JPEG":  # whose reader holds little, and a copy takes a tenth of the time
            image = file.copy()  # without the file's reader, which for WebP holds the picture two times more
    if transpose is not None:
        image = image.transpose(transpose)
        size = size[::-1] if transpose in _sideways() else size
    image.info = {}
    return image, size


def _meet(welcome: Callable[[Header], None] | None, header: Header) -> None:
    if welcome is not None:
        try:
            welcome(header)
        except Exception as error:
            raise _Unwelcome(error) from error


def _reader(kind: str) -> Callable[[io.BytesIO], ImageFile]:
    """Pillow's reader for the format. Not Image.open: it warns, through global state, before limits are checked."""
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    readers: dict[str, Callable[[io.BytesIO], ImageFile]] = {
        "PNG": PngImageFile,
        "JPEG": JpegImageFile,
        "WEBP": WebPImageFile,
    }
    if kind not in readers:
        raise BadPicture("is not a PNG, JPEG or WebP file")
    return readers[kind]


def _upper_byte(image: PILImage.Image) -> np.ndarray[Any, Any]:
    values = np.asarray(image)
    if image.mode == "I" and values.size:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise BadPicture(f"mode I: values from {low} to {high} are not within 0..65535, those of 16 bits")
        if 0 < high < 256:
            raise BadPicture(
                f"mode I: no value is above {high}: 8 bits, or nearly black in 16; convert it to mode L or I;16"
            )
    upper = (values >> 8).astype(np.uint8)
    if isinstance(key := image.info.get("transparency"), int):
        upper[values == key] = 255
    return upper


def _mend_transparency(file: PILImage.Image, raw: str) -> None:
    """Bring the colour that a PNG declares transparent to the 8 bits of the pixels, where Pillow leaves it as it is."""
    key = file.info.get("transparency")
    if raw in _RAW_KEYS and isinstance(key, int):
        file.info["transparency"] = key * _RAW_KEYS[raw]
    elif raw == "RGB;16B" and isinstance(key, tuple):
        file.info["transparency"] = tuple(value >> 8 for value in key)


def _transpose(image: PILImage.Image) -> PILImage.Transpose | None:
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 many cameras write EXIF that no parser likes; the picture is good nevertheless
        return None
    from PIL.Image import Transpose

    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation)


def _sideways() -> tuple[PILImage.Transpose, ...]:
    from PIL.Image import Transpose

    return Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90
