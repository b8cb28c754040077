"""Images as callers have them: what is sent, and what is refused before the network."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from ouzel_client import InvalidArgument
from ouzel_client._codec.images import read
from ouzel_protos import tensors
from ouzel_protos.v1.tensor_pb2 import Tensor

LIMIT = 10**6


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WebP"])
@pytest.mark.parametrize("kind", ["path", "text", "bytes"])
def test_files_are_sent_as_they_are(format, kind, pixels, tmp_path):
    path = tmp_path / "picture"
    Image.fromarray(pixels).save(path, format)
    data = path.read_bytes()
    upload = read({"path": path, "text": str(path), "bytes": data}[kind], LIMIT)
    assert (upload.key, upload.data) == ("image", data)
    assert upload.picture().size == (30, 20)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "HSV"])
def test_pil_images_are_sent_as_png(mode, pixels):
    upload = read(_as(pixels, mode), LIMIT)
    with Image.open(io.BytesIO(upload.data)) as back:
        assert (back.format, back.size) == ("PNG", (30, 20))


def _as(pixels, mode):
    image = Image.fromarray(pixels)
    return image.convert("L").convert(mode) if mode == "LA" else image.convert(mode)


def test_a_pil_image_is_sent_upright(pixels, tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as turned:
        assert read(turned, LIMIT).picture().size == (20, 30)
    assert read(path, LIMIT).picture().size == (20, 30)


@pytest.mark.parametrize("array", [np.zeros((4, 5, 3), np.uint8), np.ones((4, 5), np.uint8), np.zeros((3, 4, 5), "f4")])
def test_arrays_are_sent_as_tensors(array):
    upload = read(array, LIMIT)
    assert upload.key == "tensor"
    back = tensors.decode(Tensor.FromString(upload.data))
    assert back.dtype == array.dtype
    assert (back == array).all()


def test_a_normalised_tensor_has_no_picture():
    with pytest.raises(InvalidArgument, match="no picture"):
        read(np.zeros((3, 4, 4), np.float32), LIMIT).picture()


def test_an_array_may_change_after_it_was_sent(pixels):
    upload = read(pixels, LIMIT)
    before = pixels.copy()
    pixels[:] = 0
    assert (np.asarray(upload.picture()) == before).all()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"", "is empty"),
        (b"GIF89a....", "neither PNG, JPEG nor WebP"),
        ("no/such/file.png", "no/such/file.png: No such file"),
        ("a\0b", "image"),
        (None, "NoneType is neither"),
        (3, "int is neither"),
        (np.zeros((4, 5, 4), np.uint8), r"uint8 of shape \(4, 5, 4\)"),
        (np.zeros((4, 5, 3), np.float64), "float64"),
        (np.zeros((4, 5), np.float32), "float32"),
    ],
)
def test_what_is_no_image_is_refused(image, said):
    with pytest.raises(InvalidArgument, match=said) as caught:
        read(image, LIMIT)
    assert caught.value.field == "image"


def test_what_might_never_end_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(InvalidArgument, match="is not a file"):
            read(path, LIMIT)


def test_a_large_file_is_not_read(tmp_path):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(InvalidArgument, match="1000000000000 bytes are more than max_request_bytes, 1000000"):
        read(path, LIMIT)


def test_a_broken_pil_image_is_refused(png):
    with Image.open(io.BytesIO(png[:-400])) as broken, pytest.raises(InvalidArgument, match="image"):
        read(broken, LIMIT)
