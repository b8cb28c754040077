"""Regions of targets as messages, and segmentations from messages."""

from __future__ import annotations

import io
import os
from numbers import Real
from typing import Any

import numpy as np

from ouzel_client._codec import images
from ouzel_client._pictures.upload import Upload
from ouzel_client._types.regions import Box, Pixel
from ouzel_client._types.segmentation import Segmentation, SegmentedClass
from ouzel_client.errors import InvalidArgument
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.tensor_pb2 import Tensor


def region(given: Any, path: str, limit: int) -> pb.Region:
    """The message of a region.

    Args:
        given: A box, a pixel, or a mask.
        path: Of the request, for errors.
        limit: Bytes that may be sent.

    Raises:
        InvalidArgument: It is none of them, or cannot be sent.
    """
    match given:
        case Box(left, top, right, bottom):
            edges = [_number(edge, path) for edge in (left, top, right, bottom)]
            return pb.Region(box=pb.Region.Box(**dict(zip(("left", "top", "right", "bottom"), edges, strict=True))))
        case Pixel(x, y):
            return pb.Region(pixel=pb.Region.Pixel(x=_integer(x, path), y=_integer(y, path)))
    return pb.Region(mask=_mask(given, path, limit))


def _mask(given: Any, path: str, limit: int) -> Tensor:
    if isinstance(given, np.ndarray):
        if given.dtype not in (np.uint8, np.bool_) or given.ndim != 2:
            raise InvalidArgument(
                f"{path}: a mask is an array uint8 or bool (H, W), not {given.dtype} of shape {given.shape}", field=path
            )
        return tensors.encode(given)
    if isinstance(given, bytes):  # the service says what is wrong with it
        return Tensor(dtype=Tensor.UINT8, shape=[len(given)], data=given)
    if images.is_file(given):
        try:
            # A file goes as it is: a palette, or 16 bits, are for the service to refuse.
            data = images.read(given, limit).data if isinstance(given, os.PathLike) else _grey(given)
        except InvalidArgument as error:
            raise InvalidArgument(f"{path}: {error.message}", field=path) from None
        return Tensor(dtype=Tensor.UINT8, shape=[len(data)], data=data)
    raise InvalidArgument(
        f"{path}: {given!r:.80} is neither a Box, a Pixel nor a mask (a Path, bytes, a PIL image, or an array)",
        field=path,
    )


def _grey(picture: Any) -> bytes:
    """A PIL image as a PNG file, as it is. Raises InvalidArgument for a mode that is not grey."""
    if picture.mode not in ("1", "L"):
        raise InvalidArgument(f"a mask of mode {picture.mode} is not grey; convert it to mode L or 1")
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def segmentation(answer: pb.Explanation, upload: Upload) -> Segmentation | None:
    """What a segmentation model says; None of a classifier. Raises ValueError if its tensor does not hold together."""
    if not answer.HasField("segmentation"):
        return None
    found, view = answer.segmentation, answer.view
    array = tensors.decode(found.label_map)
    if array.ndim != 2 or array.dtype != np.uint8:
        raise ValueError(f"a label map of {array.dtype} of shape {array.shape}")
    return Segmentation(
        label_map=array,
        original=found.size == pb.ORIGINAL_IMAGE,
        classes=tuple(SegmentedClass(each.index, each.label, each.area, each.confidence) for each in found.classes),
        box=(view.left, view.top, view.right, view.bottom),
        whole=(view.image_width, view.image_height),
        _upload=upload,
    )


def _number(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidArgument(f"{path}: {value!r:.80} is not a number", field=path)
    return float(value)


def _integer(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not -(2**31) <= int(value) < 2**31:
        raise InvalidArgument(f"{path}: {value!r:.80} is not an integer of 32 bits", field=path)
    return int(value)
