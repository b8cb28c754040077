"""From the bytes of one request to the model's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from google.protobuf.message import DecodeError
from PIL import Image

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.models import images
from ouzel_protos import tensors
from ouzel_protos.v1.explain_pb2 import View
from ouzel_protos.v1.tensor_pb2 import Tensor


@dataclass(frozen=True)
class Input:
    """x: (C, H, W) float32, as the model takes it. picture: the upload, where there is one to draw on."""

    x: torch.Tensor
    view: View
    picture: Image.Image | None


def read(image: bytes | None, tensor: bytes | None, model: models.Model) -> Input:
    """Decode and preprocess one upload: an encoded image, or a serialised Tensor. Raises InvalidArgument."""
    if tensor is not None and image is not None:
        raise InvalidArgument("image: give either image or tensor, not both", field="image")
    if tensor is not None:
        return _from_tensor(tensor, model)
    model.preprocessing.check_takes_images("image")
    if image is None:
        raise InvalidArgument("image: missing; send PNG, JPEG or WebP bytes", field="image")
    picture = images.decode(image, smallest=model.preprocessing.resize)
    return _from_picture(picture, model)


def _from_picture(picture: Image.Image, model: models.Model) -> Input:
    width, height = images.original_size(picture)
    left, top, right, bottom = model.preprocessing.view(width, height)
    view = View(image_width=width, image_height=height, left=left, top=top, right=right, bottom=bottom)
    return Input(model.preprocessing(picture), view, picture)


def _from_tensor(data: bytes, model: models.Model) -> Input:
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
        return Input(torch.from_numpy(array.copy()), view, None)
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
            return _from_picture(images.decode(array.tobytes(), smallest=model.preprocessing.resize), model).x
        return _from_array(array, model).x
    except InvalidArgument as error:
        where = f"parameters.{parameter}"
        raise type(error)(f"{where}: {str(error).removeprefix(f'{error.field}: ')}", field=where) from None
