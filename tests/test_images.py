"""Rows 6 to 10 of the table of inputs that must be tried, and files broken at random."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from skimage import data

from ouzel.errors import InvalidArgument, TooLarge, UnsupportedMedia
from ouzel.models import Limits, decode, from_array, original_size
from ouzel_protos import pictures

PHOTO = Image.fromarray(data.chelsea())
SMALL = PHOTO.resize((90, 60))
FORMATS = ("PNG", "JPEG", "WEBP")


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, before: bytes = b"", pixels: bytes = b"nothing", after: bytes = b"") -> bytes:
    """A PNG that announces 8-bit grey pixels of this size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = before + chunk(b"IDAT", zlib.compress(pixels)) + after
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


# -- good files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_pixels_are_kept(format):
    image = decode(encoded(PHOTO, format, lossless=True))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), data.chelsea())
    assert original_size(image) == PHOTO.size == original_size(PHOTO)


def test_a_bytearray_will_do():
    for format in FORMATS:
        assert decode(bytearray(encoded(SMALL, format))).size == SMALL.size


def test_jpeg_at_full_size():
    image = decode(encoded(PHOTO, "JPEG", quality=95))
    assert np.abs(np.asarray(image).astype(int) - data.chelsea()).mean() < 3


@pytest.mark.parametrize(
    ("size", "decoded"), [((4000, 3000), (1000, 750)), ((1600, 1100), (800, 550)), ((900, 600), (900, 600))]
)
def test_large_jpegs_are_decoded_at_a_fraction_of_at_least_twice_the_target(size, decoded):
    image = decode(encoded(PHOTO.resize(size), "JPEG"), smallest=256)
    assert image.size == decoded
    assert original_size(image) == size


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_a_target_means_nothing_to_other_formats(format):
    assert decode(encoded(PHOTO, format), smallest=16).size == PHOTO.size


# -- row 6 and 7: nothing, and other formats ---------------------------------------------------------------------------


def test_empty():
    with pytest.raises(InvalidArgument, match="empty"):
        decode(b"")


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html></html>",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
        *(encoded(SMALL, format) for format in ("GIF", "BMP", "TIFF", "PPM", "ICO")),
        np.random.default_rng(0).bytes(4096),
        b"\x89PNG",
        b"\xff\xd8",
        b"RIFF\x00\x00\x00\x00WAVE",
        b"\0",
    ],
    ids=["html", "svg", "eps", "gif", "bmp", "tiff", "ppm", "ico", "random", "png4", "jpeg2", "wave", "zero"],
)
def test_other_formats(content):
    with pytest.raises(UnsupportedMedia, match="PNG, JPEG or WebP") as caught:
        decode(content)
    assert (caught.value.http, caught.value.field) == (415, "image")


# -- row 8: sizes, seen in the header (the pixels of these files are nonsense, so decoding them would say "broken") ----


@pytest.mark.parametrize(
    ("width", "height", "error"),
    [
        (30000, 30000, TooLarge),
        (13000, 7000, TooLarge),
        (4097, 4096, TooLarge),
        (2**31 - 1, 2**31 - 1, TooLarge),
        (1, 2000, InvalidArgument),
        (2000, 1, InvalidArgument),
        (7, 8, InvalidArgument),
        (8, 81, InvalidArgument),
        (4096, 400, InvalidArgument),
    ],
)
def test_sizes_that_are_not_welcome(width, height, error):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidArgument, match=f"{width} x {height}") as caught:
            decode(png(width, height), smallest=256)  # which makes no PNG smaller
    assert type(caught.value) is error


@pytest.mark.parametrize("size", [(8, 8), (8, 80), (4096, 4096)])
def test_sizes_at_the_limit(size):
    assert decode(encoded(Image.new("L", size), "PNG")).size == size


def test_jpeg_and_webp_sizes_too():
    for format in ("JPEG", "WEBP"):
        for lossless in (False, True):
            with pytest.raises(TooLarge, match="5000 x 600"):
                decode(encoded(Image.new("RGB", (5000, 600)), format, lossless=lossless))
            with pytest.raises(InvalidArgument, match="300 x 7"):
                decode(encoded(Image.new("RGB", (300, 7)), format, lossless=lossless))


def test_webp_canvas_is_checked_before_its_reader_opens():
    content = bytearray(encoded(SMALL.convert("RGBA"), "WEBP", exif=b"Exif\0\0II*\0"))
    assert content[12:16] == b"VP8X"
    content[24:30] = b"\xff\x3f\x00\xff\x3f\x00"
    with pytest.raises(TooLarge, match="16384 x 16384"):
        decode(bytes(content))


def test_other_limits():
    content = encoded(SMALL, "PNG")
    with pytest.raises(TooLarge, match="5399 in all"):
        decode(content, limits=Limits(max_pixels=90 * 60 - 1))
    with pytest.raises(TooLarge, match="89 at most"):
        decode(content, limits=Limits(max_edge=89))
    with pytest.raises(InvalidArgument, match="61 at least"):
        decode(content, limits=Limits(min_edge=61))
    with pytest.raises(InvalidArgument, match=r"1\.4 times"):
        decode(content, limits=Limits(max_aspect=1.4))


def test_a_jpeg_of_endless_scans():
    content = encoded(SMALL, "JPEG", progressive=True)
    scan = content[content.rfind(b"\xff\xda") : -2]
    assert decode(content).size == SMALL.size
    with pytest.raises(TooLarge, match="scans"):
        decode(content[:-2] + 1000 * scan + content[-2:])


def header_of(width: int, height: int, **more) -> pictures.Header:
    return pictures.Header("JPEG", width, height, more.pop("decoded", (width // 8, height // 8)), **more)


def test_a_jpeg_that_is_decoded_at_a_fraction_may_have_100_megapixels():
    limits = Limits()
    limits.check_file(header_of(12500, 8000))
    limits.check_file(header_of(31600, 3160, decoded=(7900, 790)))  # edges do not matter
    for header, said in (
        (header_of(12501, 8000), "100000000 in all"),
        (header_of(12500, 8000, decoded=(6250, 4000)), "16777216 are the limit"),
        (header_of(12500, 1000), "10 times"),
        (header_of(6000, 4000, decoded=(6000, 4000)), "4096 at most"),
        (header_of(6000, 4000, held=6000 * 4000 * 6), "144000000 bytes to decode, the limit is 100663296"),
        (header_of(6000, 4000, scans=65), "scans"),
    ):
        with pytest.raises(InvalidArgument, match=said) as caught:
            limits.check_file(header)
        assert f"{header.width} x {header.height}" in str(caught.value) or said == "scans"


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photograph_of_24_megapixels(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(PHOTO.resize((6000, 4000)), "JPEG", exif=exif)
    image = decode(content, smallest=256)
    assert original_size(image) == ((6000, 4000) if orientation == 1 else (4000, 6000))
    assert max(image.size) == 1500
    with pytest.raises(TooLarge, match="6000 x 4000"):
        decode(content)  # at its full size


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_progressive_jpeg_is_known_by_what_it_holds(mode, subsampling):
    """libjpeg keeps two bytes per coefficient, of whole blocks of 8 x 8."""
    size = (500, 333)
    seen: list[pictures.Header] = []
    for progressive in (False, True):
        content = encoded(
            PHOTO.resize(size).convert(mode), "JPEG", progressive=progressive, subsampling=subsampling, exif=b""
        )
        pictures.decode(content, smallest=50, welcome=seen.append)
    assert seen[0].held == 0
    full = 504 * 336 * 2
    reduced = {0: 1.0, 1: 0.5, 2: 0.25}[subsampling]
    expected = {"L": full, "RGB": full * (1 + 2 * reduced), "CMYK": full * (1 + 3 * reduced)}[mode]
    assert seen[1].held == pytest.approx(expected, rel=0.04)
    assert seen[1].decoded == (250, 167)


def test_a_baseline_jpeg_of_one_scan_per_component_is_held_too():
    content = bytearray(encoded(SMALL, "JPEG"))
    place = content.index(b"\xff\xda")
    content[place + 4] = 1  # the first scan tells of one component only
    with pytest.raises(InvalidArgument, match="bytes to decode"):
        decode(bytes(content), limits=Limits(max_held=1))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from Linux")
def test_100_megapixels_take_no_more_memory_than_the_largest_png(tmp_path):
    """A process each, by the peak that the kernel tells: Pillow's memory is not Python's."""
    script = """if True:
        import sys
        from pathlib import Path
        from ouzel.models import decode
        peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
        content = Path(sys.argv[1]).read_bytes()
        before = peak()
        image = decode(content, smallest=256)
        print(peak() - before, *image.size)
    """
    Image.new("RGB", (11547, 8660), "teal").save(tmp_path / "large.jpg")
    Image.new("RGB", (4096, 4096), "teal").save(tmp_path / "largest.png", compress_level=1)
    figures = {}
    for name in ("large.jpg", "largest.png"):
        done = subprocess.run(
            [sys.executable, "-c", script, tmp_path / name], capture_output=True, text=True, check=True
        )
        figures[name] = [int(each) for each in done.stdout.split()]
    assert figures["large.jpg"][1:] == [1444, 1083]
    assert figures["large.jpg"][0] < figures["largest.png"][0]  # KiB


# -- row 9: truncated, broken, bombs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("format", FORMATS)
def test_truncated(format, share):
    content = encoded(PHOTO, format)
    with pytest.raises(InvalidArgument, match="broken"):
        decode(content[: int(len(content) * share)])


@pytest.mark.parametrize("place", ["before", "after"])
def test_text_that_unpacks_to_50_megabytes(place):
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000)))
    pixels = 10 * (b"\0" + bytes(10))
    assert decode(png(10, 10, pixels=pixels)).size == (10, 10)
    with pytest.raises(InvalidArgument, match="broken"):
        decode(png(10, 10, pixels=pixels, **{place: bomb}))


def test_pixels_that_unpack_to_more_than_announced_are_cut():
    image = decode(png(16, 16, pixels=bytes(50_000_000)))
    assert image.size == (16, 16)


# -- row 10: kinds of pixel --------------------------------------------------------------------------------------------


def _levels(mode: str) -> Image.Image:
    return SMALL.convert(mode)


def test_cmyk_jpeg():
    image = decode(encoded(_levels("CMYK"), "JPEG", quality=95))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - np.asarray(SMALL)).mean() < 6


def test_sixteen_bits_keep_the_upper_eight():
    values = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    image = decode(encoded(Image.fromarray(values), "PNG"))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), values >> 8)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_stays_grey(mode):
    image = decode(encoded(_levels(mode), "PNG"))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), np.asarray(_levels(mode).convert("L")))


def test_palette():
    image = decode(encoded(_levels("P"), "PNG"))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.asarray(_levels("P").convert("RGB")))


@pytest.mark.parametrize(("mode", "decoded", "red"), [("RGBA", "RGB", (255, 0, 0, 0)), ("LA", "L", (0, 0))])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_transparency_lies_over_white(mode, decoded, red, format):
    if format == "WEBP":
        decoded = "RGB"  # which knows no grey
    image = decode(encoded(Image.new(mode, (20, 20), red), format, lossless=True))
    assert image.mode == decoded
    assert np.asarray(image).min() == 255


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_colour_declared_transparent_is_white(mode):
    image = _levels(mode)
    key = image.getpixel((30, 30))
    shown = np.asarray(decode(encoded(image, "PNG", transparency=key)))
    assert image.mode == mode
    assert (shown[np.all(np.atleast_3d(np.asarray(image)) == key, axis=2)] == 255).all()
    assert (shown != 255).any()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(SMALL, format, exif=exif)
    with Image.open(io.BytesIO(content)) as opened:
        expected = ImageOps.exif_transpose(opened).convert("RGB")
    image = decode(content)
    assert image.size == original_size(image) == expected.size
    assert np.array_equal(np.asarray(image), np.asarray(expected))


def test_rotated_photograph_at_a_fraction():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode(encoded(PHOTO.resize((2000, 1500)), "JPEG", exif=exif), smallest=100)
    assert image.size == (375, 500) or image.size == (188, 250)
    assert original_size(image) == (1500, 2000)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0junk", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"]
)
def test_unreadable_exif_is_ignored(exif):
    assert decode(encoded(SMALL, "JPEG", exif=exif)).size == SMALL.size


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_first_frame_of_an_animation(format):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    image = decode(encoded(frames[0], format, save_all=True, append_images=frames[1:], lossless=True))
    assert image.getpixel((5, 5)) == (255, 0, 0)


def test_first_picture_of_several_in_a_jpeg():
    content = encoded(SMALL, "MPO", save_all=True, append_images=[SMALL.resize((45, 30))])
    assert decode(content).size == SMALL.size


# -- whatever the bytes ------------------------------------------------------------------------------------------------

SEEDS = [
    *(encoded(SMALL, format) for format in FORMATS),
    encoded(
        SMALL, "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    ),
    encoded(SMALL, "WEBP", lossless=True, exif=b"Exif\0\0II*\0"),
    encoded(SMALL.convert("CMYK"), "JPEG"),
    encoded(SMALL.convert("P"), "PNG", transparency=3),
    encoded(SMALL.convert("LA"), "PNG"),
    encoded(Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30)), "PNG"),
    encoded(SMALL, "PNG", save_all=True, append_images=[SMALL.rotate(9)]),
    encoded(SMALL, "WEBP", save_all=True, append_images=[SMALL.rotate(9)]),
    png(
        10,
        10,
        pixels=110 * b"\0",
        before=chunk(b"tEXt", b"a\0b"),
        after=chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"x")),
    ),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good file with a few bytes changed, mostly in its headers, or cut, or with a piece repeated."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, min(len(content) - 1, draw(st.sampled_from((64, 600, 10**6))))))
        match draw(st.sampled_from(("set", "flip", "cut", "repeat", "drop", "long"))):
            case "set":
                content[place] = draw(st.sampled_from((0, 1, 127, 128, 254, 255)))
            case "flip":
                content[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[max(place, 1) :]
            case "repeat":
                content[place:place] = content[place : place + draw(st.integers(1, 64))]
            case "drop":
                del content[max(place, 1) : max(place, 1) + draw(st.integers(1, 64))]
            case "long":
                content[place : place + 4] = draw(
                    st.sampled_from((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"))
                )
    return bytes(content)


@given(mutated(), st.sampled_from([None, 1, 20, 256]))
@settings(max_examples=1500, deadline=None, derandomize=True)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of broken metadata
def test_broken_files_give_an_image_or_a_clear_error(content, smallest):
    try:
        image = decode(content, smallest=smallest)
    except InvalidArgument as error:
        assert (error.field, "\n" in str(error)) == ("image", False)  # noqa: PT017 an error is one of two good ends
    else:
        assert image.mode in ("L", "RGB")
        assert min(original_size(image)) >= 8
        assert image.width * image.height <= 4096 * 4096
        assert np.prod(original_size(image)) <= 10**8
        assert len(image.tobytes()) == image.width * image.height * len(image.mode)


# -- arrays ------------------------------------------------------------------------------------------------------------


def test_arrays_of_pixels():
    assert from_array(data.chelsea()).size == (451, 300)
    assert from_array(data.chelsea()[:, :, 0]).mode == from_array(data.chelsea()[:, :, :1]).mode == "L"


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((20, 20, 4), np.uint8),
        np.zeros((20, 20, 3), np.float32),
        np.zeros((1, 20, 20, 3), np.uint8),
        np.zeros(20, np.uint8),
        np.zeros((0, 20, 3), np.uint8),
        np.zeros((5000, 600, 3), np.uint8),
        np.zeros((2000, 1), np.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype}{pixels.shape}",
)
def test_arrays_that_are_no_picture(pixels):
    with pytest.raises(InvalidArgument, match="image"):
        from_array(pixels)
