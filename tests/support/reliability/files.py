"""Files that are no welcome images, and images in every mode."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from support import pictures


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def announced(width: int, height: int, before: bytes = b"") -> bytes:
    """A PNG that says how large it is, and then holds nothing of it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(b"nothing")) + chunk(b"IEND", b"")


def blank(width: int, height: int) -> bytes:
    """A PNG that really has so many pixels."""
    return encoded(Image.new("1", (width, height)))


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def photograph(width: int = 240, height: int = 200, seed: int = 0) -> Image.Image:
    small = Image.fromarray(pictures.picture(seed, 24, 20))
    return small.resize((width, height), Image.Resampling.BICUBIC)


JPEG = encoded(photograph(), "JPEG")
TRUNCATED = JPEG[: len(JPEG) // 2]
TEXT_BOMB = announced(64, 64, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000))))
NO_IMAGES = {
    "HTML": b"<!doctype html><html><body>a cat</body></html>",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>',
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n",
    "GIF": encoded(photograph(64, 64), "GIF"),
    "random bytes": np.random.default_rng(0).bytes(4096),
}


def modes() -> dict[str, bytes]:
    """A photograph in modes that not all decoders take."""
    image = photograph()
    grey = np.asarray(image.convert("L"))
    rotated = Image.Exif()
    rotated[0x0112] = 6
    return {
        "CMYK": encoded(image.convert("CMYK"), "JPEG"),
        "I;16": encoded(Image.fromarray(grey.astype(np.uint16) * 257)),
        "LA": encoded(image.convert("LA")),
        "P": encoded(image.convert("P")),
        "1 bit": encoded(image.convert("1")),
        "EXIF rotated": encoded(image, "JPEG", exif=rotated),
    }
