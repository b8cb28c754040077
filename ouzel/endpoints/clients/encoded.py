"""Pictures as files, for services that decode images themselves."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ouzel.endpoints.description.protocols import ImageInput


def encode(picture: np.ndarray, how: ImageInput) -> bytes:
    """A file.

    Args:
        picture: (H, W, 3) uint8.
        how: The format.
    """
    file = io.BytesIO()
    if how.format == "png":
        Image.fromarray(picture).save(file, "PNG", compress_level=1)
    else:
        Image.fromarray(picture).save(file, "JPEG", quality=how.quality, subsampling=0)
    return file.getvalue()
