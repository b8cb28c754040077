"""Images as callers give them, and as they are sent.

    path, bytes      PNG, JPEG or WebP, sent as they are
    PIL image        sent as PNG, 8-bit grey or RGB, upright: by the rules of `ouzel_protos.pictures`
    uint8 array      (H, W, 3) or (H, W): decoded pixels, preprocessed by the service like a file
    float32 array    (C, H, W): already normalised, of exactly the model's input size

Pillow is imported only for a PIL image, or when a picture is drawn.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ouzel_client._pictures.upload import Upload
from ouzel_client.errors import InvalidArgument
from ouzel_protos import pictures, tensors

if TYPE_CHECKING:
    from PIL import Image as PILImage

ImageInput: TypeAlias = "str | os.PathLike[str] | bytes | npt.NDArray[Any] | PILImage.Image"


def read(source: ImageInput, limit: int) -> Upload:
    """Make an upload of what the caller has. Raises InvalidArgument; limit: bytes that may be sent."""
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_bytes(bytes(source), "image")
    if isinstance(source, str | os.PathLike):
        return _from_file(Path(source), limit)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    pil = sys.modules.get("PIL.Image")  # if it is not imported, `source` is no PIL image
    if pil is not None and isinstance(source, pil.Image):
        return _from_pil(source)
    raise InvalidArgument(
        f"image: {type(source).__name__} is neither a path, bytes, a PIL image nor a numpy array", field="image"
    )


def is_file(source: Any) -> bool:
    """Whether this is sent as the bytes of a file: a path (but no text), bytes, or a PIL image."""
    pil = sys.modules.get("PIL.Image")
    return isinstance(source, bytes | os.PathLike) or (pil is not None and isinstance(source, pil.Image))


def _from_file(path: Path, limit: int) -> Upload:
    try:
        if path.exists() and not path.is_file():  # a pipe or a device might never end
            raise InvalidArgument(f"{path}: is not a file", field="image")
        size = path.stat().st_size
        if size > limit:
            raise InvalidArgument(f"{path}: {size} bytes are more than max_request_bytes, {limit}", field="image")
        return _from_bytes(path.read_bytes(), str(path))
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror or error}", field="image") from None
    except ValueError as error:  # a path with a null byte, say
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(f"image: {path!r} is not a path ({error})", field="image") from None


def _from_bytes(data: bytes, name: str) -> Upload:
    if not data:
        raise InvalidArgument(f"{name}: is empty", field="image")
    if not pictures.file_format(data):
        raise InvalidArgument(f"{name}: is neither PNG, JPEG nor WebP", field="image")
    return Upload("image", data)


def _from_array(array: npt.NDArray[Any]) -> Upload:
    if array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        pixels = array.copy()  # the caller may go on to draw in it
        return Upload("tensor", tensors.encode(pixels).SerializeToString(), pixels)
    if array.dtype == np.float32 and array.ndim == 3:
        return Upload("tensor", tensors.encode(array).SerializeToString())
    raise InvalidArgument(
        f"image: an array of {array.dtype} of shape {array.shape} is neither uint8 (H, W, 3) or (H, W), pixels, "
        "nor float32 (C, H, W), normalised as the model takes it",
        field="image",
    )


def _from_pil(source: PILImage.Image) -> Upload:
    try:
        return Upload("image", pictures.encode(source))
    except pictures.BadPicture as error:
        raise InvalidArgument(f"image: {error}", field="image") from error
