"""numpy <-> Tensor: the only codec."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ouzel_protos.v1.tensor_pb2 import Tensor

_DTYPES: dict[Any, np.dtype[Any]] = {
    Tensor.FLOAT32: np.dtype("<f4"),
    Tensor.FLOAT16: np.dtype("<f2"),
    Tensor.FLOAT64: np.dtype("<f8"),
    Tensor.UINT8: np.dtype("|u1"),
    Tensor.INT8: np.dtype("|i1"),
    Tensor.INT16: np.dtype("<i2"),
    Tensor.INT32: np.dtype("<i4"),
    Tensor.INT64: np.dtype("<i8"),
    Tensor.BOOL: np.dtype("|b1"),
}
_ENUMS = {dtype: enum for enum, dtype in _DTYPES.items()}


def encode(array: npt.ArrayLike) -> Tensor:
    """Encodes an array.

    Args:
        array: Of any shape.

    Raises:
        TypeError: The wire does not carry its dtype.
    """
    array = np.asarray(array)
    little = array.dtype.newbyteorder("<")
    if little not in _ENUMS:
        raise TypeError(f"dtype {array.dtype} cannot be sent; choose one of {', '.join(d.name for d in _ENUMS)}")
    return Tensor(dtype=_ENUMS[little], shape=array.shape, data=array.astype(little, order="C", copy=False).tobytes())


def decode(tensor: Tensor) -> npt.NDArray[Any]:
    """Decodes a Tensor.

    Args:
        tensor: The message.

    Returns:
        A read-only array.

    Raises:
        ValueError: Dtype, shape and data do not fit each other.
    """
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise ValueError(f"dtype {tensor.dtype} is not a dtype of Tensor")
    shape = tuple(tensor.shape)
    if any(extent < 0 for extent in shape):
        raise ValueError(f"shape {shape} has a negative extent")
    expected, data = math.prod(shape) * dtype.itemsize, tensor.data  # once: each look at it makes a copy
    if expected != len(data):
        raise ValueError(f"shape {shape} of {dtype.name} needs {expected} bytes, data has {len(data)}")
    return np.frombuffer(data, dtype=dtype).reshape(shape)
