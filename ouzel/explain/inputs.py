"""From the bytes of requests to the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from google.protobuf.message import DecodeError
from PIL import Image

from ouzel import images, models
from ouzel.bounded_messages import check_elements
from ouzel.errors import InvalidArgument
from ouzel.explain.stages import Stages
from ouzel.saliency.transfer import Transfer
from ouzel_protos import tensors
from ouzel_protos.v1.explain_pb2 import View
from ouzel_protos.v1.tensor_pb2 import Tensor

_TENSOR_ELEMENTS = 64  # of a Tensor: its fields and the axes of its shape


@dataclass(frozen=True)
class Input:
    """One upload, decoded.

    Attributes:
        view: What the model sees of it.
        picture: Where it is pixels.
        x: Where it is a tensor: (C, H, W) float32, as the model takes it.
        coded: Where it is a JPEG that is decoded later, together with others.
    """

    view: View
    picture: Image.Image | None = None
    x: torch.Tensor | None = None
    coded: bytes | None = None

    def pixels(self, preprocessing: models.Preprocessing) -> torch.Tensor:
        """(C, H, W) uint8 of the model's input size; of a tensor float32, normalised already."""
        if self.x is not None:
            return self.x
        assert self.picture is not None  # it has one of the two
        return preprocessing.pixels(self.picture)


def read(image: bytes | None, tensor: bytes | None, model: models.Model, *, later: bool = False) -> Input:
    """Decode one upload: an encoded image, or a serialised Tensor.

    Args:
        image: Bytes of a PNG, JPEG or WebP file.
        tensor: A serialised Tensor, in place of an image.
        model: That it is for.
        later: Whether a JPEG that any decoder reads alike may be left as it is, for a device to decode.

    Raises:
        InvalidArgument: It cannot be read; one that is left as it is may still turn out to be broken.
    """
    if tensor is not None and image is not None:
        raise InvalidArgument("image: give either image or tensor, not both", field="image")
    if tensor is not None:
        return _from_tensor(tensor, model)
    model.preprocessing.check_takes_images("image")
    if image is None:
        raise InvalidArgument("image: missing; send PNG, JPEG or WebP bytes", field="image")
    if later and (size := images.size_of_plain_jpeg(image, smallest=model.preprocessing.resize)) is not None:
        return Input(_view(size, model), coded=image)
    picture = images.decode(image, smallest=model.preprocessing.resize)
    return _from_picture(picture, model)


def batched(
    rows: Sequence[torch.Tensor],
    preprocessing: models.Preprocessing,
    device: torch.device,
    stages: Stages,
    transfer: Transfer,
) -> torch.Tensor:
    """The model's input of some rows.

    Pixels are normalised on the device, all at once: a quarter of the bytes goes there. Values are the same bit by bit
    as those of `preprocessing` for one image, because each comes of the same two roundings.

    Args:
        rows: What `Input.pixels` gives, on the host or on the device already.
        preprocessing: Of the model.
        device: Of the model.
        stages: Are told the time.
        transfer: Brings the rows to the device, and tells the time that it took there once it was waited for.

    Returns:
        (B, C, H, W) float32, on the device, which has perhaps not made it yet.
    """
    plain = all(row.dtype == torch.uint8 for row in rows)
    rows = rows if plain else [_normalised(row, preprocessing) for row in rows]
    stages.lap("preprocess")
    x = transfer.send(rows, device)
    stages.lap("copy")
    if plain:
        with transfer.timed("preprocess", device):
            x = preprocessing.normalised(x)
        stages.lap("preprocess")
    return x


def _normalised(row: torch.Tensor, preprocessing: models.Preprocessing) -> torch.Tensor:
    return preprocessing.normalised(row) if row.dtype == torch.uint8 else row


def _from_picture(picture: Image.Image, model: models.Model) -> Input:
    return Input(_view(images.original_size(picture), model), picture)


def _view(size: tuple[int, int], model: models.Model) -> View:
    width, height = size
    left, top, right, bottom = model.preprocessing.view(width, height)
    return View(image_width=width, image_height=height, left=left, top=top, right=right, bottom=bottom)


def _from_tensor(data: bytes, model: models.Model) -> Input:
    check_elements(Tensor, data, _TENSOR_ELEMENTS, where="tensor")
    try:
        array = tensors.decode(Tensor.FromString(data))
    except DecodeError:  # its text is about classes of Python
        raise InvalidArgument(f"tensor: {len(data)} bytes are not a serialised Tensor", field="tensor") from None
    except ValueError as error:
        raise InvalidArgument(f"tensor: {error}", field="tensor") from None
    return _from_array(array, model)


def _from_array(array: npt.NDArray[Any], model: models.Model) -> Input:
    if (
        array.dtype == np.uint8
        and model.preprocessing.takes_images
        and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3))
    ):
        return _from_picture(images.from_array(array), model)
    if array.dtype == np.float32 and array.shape == model.input_shape:
        if not np.isfinite(array).all():
            raise InvalidArgument("tensor: has values that are not finite", field="tensor")
        _, height, width = model.input_shape
        view = View(image_width=width, image_height=height, right=width, bottom=height)
        return Input(view, x=torch.from_numpy(array.copy()))
    pixels = "neither uint8 (H, W, 3) or (H, W), pixels, nor" if model.preprocessing.takes_images else "not"
    raise InvalidArgument(
        f"tensor: {array.dtype} of shape {array.shape} is {pixels} float32 {model.input_shape}, as the model takes it",
        field="tensor",
    )


def given_image(array: npt.NDArray[Any], parameter: str, model: models.Model) -> torch.Tensor:
    """(C, H, W) as the model takes it, of an image that a method's parameter holds.

    array: what `read` takes as a tensor, or uint8 (n,), the bytes of an encoded image. Pixels are preprocessed like
    those of an upload. Raises InvalidArgument that names the parameter.
    """
    try:
        if array.dtype == np.uint8 and array.ndim == 1:
            given = _from_picture(images.decode(array.tobytes(), smallest=model.preprocessing.resize), model)
        else:
            given = _from_array(array, model)
        return _normalised(given.pixels(model.preprocessing), model.preprocessing)
    except InvalidArgument as error:
        where = f"parameters.{parameter}"
        raise type(error)(f"{where}: {str(error).removeprefix(f'{error.field}: ')}", field=where) from None
