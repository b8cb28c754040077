"""One set of rules for pictures: in every mode of PIL, what the client sends is what the service reads."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from ouzel.images import plain as library_plain
from ouzel.models import Preprocessing, decode
from ouzel_client._codec.images import read
from ouzel_client.errors import InvalidArgument
from ouzel_protos import pictures

SIZE = 16
RAMP = np.tile(np.linspace(0, 65535, SIZE).astype(np.uint16), (SIZE, 1))
GREY = (RAMP >> 8).astype(np.uint8)
COLOUR = np.dstack([GREY, GREY.T, 255 - GREY])
ALPHA = np.where(np.eye(SIZE, dtype=bool), 0, np.full((SIZE, SIZE), 128)).astype(np.uint8)


def over_white(values: np.ndarray) -> np.ndarray:
    """Straight alpha, slowly and plainly."""
    share = ALPHA[..., None] / 255 if values.ndim == 3 else ALPHA / 255
    return np.rint(values * share + 255 * (1 - share)).astype(np.uint8)


def sixteen(mode: str) -> Image.Image:
    order = {"I;16B": ">u2", "I;16N": "=u2"}.get(mode, "<u2")
    return Image.frombytes(mode, (SIZE, SIZE), RAMP.astype(order).tobytes())


def palette(mode: str) -> Image.Image:
    image = Image.fromarray(GREY).convert("P")
    image.putpalette(list(np.stack([np.arange(256), 255 - np.arange(256), np.full(256, 7)], axis=1).flatten()))
    if mode == "PA":
        image = image.convert("PA")
        image.putalpha(Image.fromarray(ALPHA))
    return image


def case(mode: str) -> tuple[Image.Image, np.ndarray]:
    """An image of this mode, and what must become of it: (H, W) or (H, W, 3) of 8 bits."""
    by_palette = np.dstack([GREY, 255 - GREY, np.full_like(GREY, 7)])
    match mode:
        case "1":
            return Image.fromarray(GREY > 127), np.where(GREY > 127, 255, 0)
        case "L":
            return Image.fromarray(GREY), GREY
        case "I":
            return Image.fromarray(RAMP.astype(np.int32)), GREY
        case "I;16" | "I;16B" | "I;16L" | "I;16N":
            return sixteen(mode), GREY
        case "LA":
            return Image.fromarray(np.dstack([GREY, ALPHA])), over_white(GREY)
        case "La":
            return Image.fromarray(np.dstack([GREY, ALPHA])).convert("La"), over_white(GREY)
        case "P":
            return palette("P"), by_palette
        case "PA":
            return palette("PA"), over_white(by_palette)
        case "RGB":
            return Image.fromarray(COLOUR), COLOUR
        case "RGBX":
            return Image.fromarray(COLOUR).convert("RGBX"), COLOUR
        case "RGBA":
            return Image.fromarray(np.dstack([COLOUR, ALPHA])), over_white(COLOUR)
        case "RGBa":
            return Image.fromarray(np.dstack([COLOUR, ALPHA])).convert("RGBa"), over_white(COLOUR)
        case "CMYK":
            return Image.fromarray(COLOUR).convert("CMYK"), COLOUR
        case "YCbCr" | "HSV":
            return Image.fromarray(COLOUR).convert(mode), COLOUR
    raise AssertionError(mode)


READ = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "LA", "La", "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK")
NEARLY = ("YCbCr", "HSV")
REFUSED = ("F", "LAB")


def test_every_mode_of_this_pillow_is_read_or_refused():
    modes = set(Image._MODEINFO) if hasattr(Image, "_MODEINFO") else set(Image.MODES)
    assert modes - {"I;16N"} == {*READ, *NEARLY, *REFUSED} - {"I;16N"}


@pytest.mark.parametrize("mode", READ + NEARLY)
def test_what_the_client_sends_is_what_the_service_reads_and_what_overlays_lie_on(mode):
    image, expected = case(mode)
    before = image.tobytes()
    upload = read(image, 10**6)
    seen = decode(upload.data)
    assert image.tobytes() == before
    assert seen.mode == ("L" if expected.ndim == 2 else "RGB")
    assert np.array_equal(np.asarray(seen), np.asarray(library_plain(image)))
    # Colours that were multiplied with their alpha, or put into other coordinates, have lost a level or two.
    off = 6 if mode in (*NEARLY, "La", "RGBa") else 1
    assert np.abs(np.asarray(seen).astype(int) - expected).max() <= off
    assert np.array_equal(np.asarray(upload.picture()), np.asarray(seen.convert("RGB")))
    as_file = Preprocessing(input_size=(8, 8), resize=8).pixels(seen)
    assert (Preprocessing(input_size=(8, 8), resize=8).pixels(image) == as_file).all()


@pytest.mark.parametrize("mode", REFUSED)
def test_what_nobody_can_read_is_refused_in_words(mode):
    image = Image.new(mode, (SIZE, SIZE))
    for refuse in (lambda: read(image, 10**6), lambda: library_plain(image), lambda: pictures.encode(image)):
        with pytest.raises(ValueError, match=f"mode {mode}: ") as caught:
            refuse()
        assert "\n" not in str(caught.value)
    with pytest.raises(InvalidArgument):
        read(image, 10**6)


@pytest.mark.parametrize(
    ("values", "said"), [((-1, 9), "-1 to 9"), ((0, 65536), "0 to 65536"), ((0, 255), "above 255")]
)
def test_32_bits_are_read_as_16_or_refused(values, said):
    image = Image.fromarray(np.resize(np.array(values, dtype=np.int32), (SIZE, SIZE)))
    with pytest.raises(pictures.BadPicture, match=said):
        pictures.plain(image)
    assert not np.asarray(pictures.plain(Image.new("I", (4, 4)))).any()  # black in either reading


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(depth: int, colour: int, rows: bytes, transparent: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, colour, 0, 0, 0))
    body = chunk(b"tRNS", transparent) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("colours", [1, 3])
def test_a_colour_that_a_png_declares_transparent_is_white_at_any_depth(depth, colours):
    if colours == 3 and depth < 8:
        pytest.skip("PNG has no such colours")
    top = 2**depth - 1
    values = [round(place / 7 * top) for place in range(8)]
    bits = "".join(f"{value:0{depth}b}" * colours for value in values)
    row = b"\0" + bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8))
    key = values[3]
    content = png(depth, 0 if colours == 1 else 2, 8 * row, struct.pack(">H", key) * colours)
    shown = np.atleast_3d(np.asarray(decode(content)))[0, :, 0]
    eight = [value >> 8 if depth == 16 else round(value * 255 / top) for value in values]
    assert shown.tolist() == [255 if value == key else level for value, level in zip(values, eight, strict=True)]
    assert np.array_equal(np.asarray(read(content, 10**6).picture()), np.asarray(decode(content).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_applied_once(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    Image.fromarray(COLOUR[:, :9]).save(out, "PNG", exif=exif)
    with Image.open(io.BytesIO(out.getvalue())) as opened:
        by_object = decode(read(opened, 10**6).data)
    by_file = decode(out.getvalue())
    assert by_object.size == ((9, 16) if orientation < 5 else (16, 9))
    assert np.array_equal(np.asarray(by_object), np.asarray(by_file))


def test_an_icon_that_declares_a_colour_transparent_is_sent_as_it_looks():
    image = Image.fromarray(GREY)
    image.info["transparency"] = int(GREY[0, 5])
    seen = np.asarray(decode(read(image, 10**6).data))
    assert (seen[:, 5] == 255).all()
    assert np.array_equal(np.delete(seen, 5, axis=1), np.delete(GREY, 5, axis=1))


def test_the_rules_need_no_pillow_until_there_is_a_picture():
    import subprocess

    code = "import sys, ouzel_protos.pictures as p; assert p.file_format(b'GIF') == ''; print('PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
