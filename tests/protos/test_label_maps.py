"""Label maps: every packing of a PNG gives the same numbers, and what is none is refused in words."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ouzel_protos import label_maps
from ouzel_protos.label_maps import BadMask
from support.masked import png

LABELS = np.random.default_rng(0).integers(0, 2, (10, 13)).astype(np.uint8)


def packed(labels: np.ndarray, bits: int, kind: int = 0) -> bytes:
    """A PNG by hand, as the specification has it: Pillow cannot write grey of 2 and 4 bits. kind: 3 has a palette."""
    lines = b""
    for row in labels:
        flags = np.unpackbits(row[:, None], axis=1)[:, 8 - bits :]
        lines += b"\0" + np.packbits(flags.flatten()).tobytes()

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = labels.shape
    palette = chunk(b"PLTE", bytes(range(0, 3 * 2**bits, 1))) if kind == 3 and bits < 8 else b""
    palette = palette or (chunk(b"PLTE", bytes(768)) if kind == 3 else b"")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + palette + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", [0, 3])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_every_packing_gives_the_numbers(bits: int, kind: int) -> None:
    labels = np.random.default_rng(bits).integers(0, 2**bits, (10, 13)).astype(np.uint8)
    labels[labels == 255] = 0
    assert np.array_equal(label_maps.read(packed(labels, bits, kind), (13, 10), 255), labels)


def test_what_is_written_is_read() -> None:
    labels = LABELS.copy()
    labels[0, 0] = label_maps.IGNORED
    assert np.array_equal(label_maps.read(label_maps.write(labels), (13, 10), 2), labels)


def animation() -> bytes:
    file = io.BytesIO()
    frames = [Image.fromarray(LABELS), Image.fromarray(1 - LABELS)]
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    return file.getvalue()


def turned() -> bytes:
    image, file, exif = Image.fromarray(LABELS), io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    image.save(file, "PNG", exif=exif)
    return file.getvalue()


JPEG = io.BytesIO()
Image.fromarray(LABELS).save(JPEG, "JPEG")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty: 0 bytes"),
        (JPEG.getvalue(), "not a PNG file"),
        (png(LABELS)[:60], "broken"),
        (png(LABELS[:, :9]), "9 x 10 pixels; its image has 13 x 10"),
        (png(LABELS.astype(np.uint16)), "16 bits in a channel"),
        (png(np.stack([LABELS] * 3, 2)), "mode RGB"),
        (png(np.stack([LABELS] * 4, 2)), "mode RGBA"),
        (png(np.stack([LABELS] * 2, 2)), "mode LA"),
        (
            png(np.where(LABELS > 0, 7, LABELS).astype(np.uint8)),
            r"class 7 at x = \d+, y = \d+ .* 2 classes, 0 to 1, and 255",
        ),
        (png(np.full((10, 13), 255, np.uint8)), "255 all over"),
        (animation(), "animation of 2"),
        (turned(), "EXIF orientation"),
    ],
)
def test_what_is_no_label_map_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(BadMask, match=words):
        label_maps.read(content, (13, 10), 2)


def test_a_mask_of_any_size_has_a_limit() -> None:
    header = packed(LABELS, 8)
    large = header[:16] + struct.pack(">II", 70_000, 70_000) + header[24:]
    large = large[:29] + struct.pack(">I", zlib.crc32(large[12:29])) + large[33:]
    with pytest.raises(BadMask, match=r"70000 x 70000 pixels; 16777216 in all"):
        label_maps.values(large, None)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["one"], "1 classes; 2 to 255"),
        ([str(n) for n in range(256)], "256 classes"),
        (["a", "a"], "'a' is there twice"),
        (["a", " "], "not a line"),
        (["a", "b\nc"], "not a line"),
    ],
)
def test_names_of_classes(classes: list[str], words: str) -> None:
    with pytest.raises(BadMask, match=words):
        label_maps.check_classes(classes)
