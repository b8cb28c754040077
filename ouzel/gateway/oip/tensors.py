"""Tensors of the protocol: names of datatypes, numbers and bytes.

FP16 and BF16 travel as raw bytes only. Elements of BYTES are each preceded by their length, four bytes, little-endian.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ouzel.errors import InvalidArgument
from ouzel.gateway.oip.json_numbers import Numbers
from ouzel_protos.text import shown

Values: TypeAlias = "npt.NDArray[Any] | list[bytes]"
Parameters: TypeAlias = Mapping[str, bool | int | float | str]
BYTES, BF16, FP16 = "BYTES", "BF16", "FP16"
NUMBERS: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("|b1"),
    "UINT8": np.dtype("|u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("|i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    FP16: np.dtype("<f2"),
    BF16: np.dtype("<u2"),  # the upper half of a float32
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_MOST_AXES = 8
_MOST_ELEMENTS = 2**40
_MOST_FILES = 4096  # of one tensor: as many as rows can be allowed to be
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class InputTensor:
    """A tensor that was sent.

    Attributes:
        name: Of the input.
        datatype: One of NUMBERS, or BYTES.
        shape: As the caller says; it fits the values.
        values: Numbers of that shape, or one bytes object per element.
        parameters: Of the tensor.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Values
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class OutputTensor:
    """A tensor that is answered; attributes as those of `InputTensor`."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Values


def checked_shape(name: str, shape: Sequence[Any]) -> tuple[int, ...]:
    """The shape, if it is one. Raises InvalidArgument that names the tensor."""
    where = f"inputs.{name}.shape"
    if len(shape) > _MOST_AXES:
        raise InvalidArgument(f"{where}: {len(shape)} axes; at most {_MOST_AXES}", field=where)
    for extent in shape:
        if type(extent) is not int or extent < 0:
            raise InvalidArgument(f"{where}: {extent!r:.40} is not an integer from 0 up", field=where)
    if math.prod(shape) > _MOST_ELEMENTS:
        raise InvalidArgument(f"{where}: {list(shape)} has more than {_MOST_ELEMENTS} elements", field=where)
    return tuple(shape)


def from_raw(name: str, datatype: str, shape: tuple[int, ...], raw: bytes | memoryview) -> Values:
    """The values in raw bytes. Raises InvalidArgument that names the tensor, the size and what it should be."""
    where = f"inputs.{name}"
    if datatype == BYTES:
        check_files(where, math.prod(shape))
        return _elements(where, raw, math.prod(shape))
    dtype = _number_type(where, datatype)
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise InvalidArgument(
            f"{where}: {len(raw)} bytes of data; {datatype} of shape {list(shape)} takes {expected}", field=where
        )
    values = np.frombuffer(raw, dtype).reshape(shape)
    return _widened(values) if datatype == BF16 else values


def from_numbers(name: str, datatype: str, shape: tuple[int, ...], numbers: Any) -> npt.NDArray[Any]:
    """The values in numbers, a list or an array, flat or nested. Raises InvalidArgument that names the tensor."""
    where = f"inputs.{name}"
    if datatype in (FP16, BF16):
        raise InvalidArgument(f"{where}: {datatype} travels as raw bytes only, not as numbers", field=where)
    dtype = _number_type(where, datatype)
    if isinstance(numbers, Numbers) and numbers.count != math.prod(shape):  # before any is made
        raise InvalidArgument(f"{where}: {numbers.count} values do not fit the shape {list(shape)}", field=where)
    try:
        values = _array(numbers)
        if values.dtype.kind not in ("b" if dtype.kind == "b" else "iuf") and values.size:
            raise ValueError("they are not all numbers")
        if dtype.kind in "iu" and values.size:
            limits = np.iinfo(dtype)
            if values.dtype.kind == "f" and not (values == np.floor(values)).all():
                raise ValueError("they are not all integers")
            if values.min() < limits.min or values.max() > limits.max:
                raise ValueError(f"they are not all from {limits.min} to {limits.max}")
        with np.errstate(over="ignore"):
            values = values.astype(dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidArgument(f"{where}: its values are not {datatype} ({error!s:.120})", field=where) from None
    if values.size != math.prod(shape) or (values.ndim > 1 and values.shape != shape):
        raise InvalidArgument(
            f"{where}: values of shape {list(values.shape)} do not fit the shape {list(shape)}", field=where
        )
    return values.reshape(shape)


def check_files(where: str, count: int) -> None:
    """Refuses a tensor of more files than any request has. Raises InvalidArgument."""
    if count > _MOST_FILES:
        raise InvalidArgument(f"{where}: {count} elements of {BYTES} are more than {_MOST_FILES}", field=where)


def to_raw(tensor: OutputTensor) -> bytes:
    """The raw bytes of a tensor."""
    if isinstance(tensor.values, list):
        return b"".join(_LENGTH.pack(len(element)) + element for element in tensor.values)
    return tensor.values.astype(NUMBERS[tensor.datatype], order="C", copy=False).tobytes()


def _array(numbers: Any) -> npt.NDArray[Any]:
    if isinstance(numbers, Numbers):
        return numbers.array()
    try:
        return np.asarray(numbers)
    except ValueError:  # whose words are numpy's
        raise ValueError("their lists are not all of the same length") from None


def _number_type(where: str, datatype: str) -> np.dtype[Any]:
    dtype = NUMBERS.get(datatype)
    if dtype is None:
        known = ", ".join((*NUMBERS, BYTES))
        raise InvalidArgument(f"{where}: the datatype {shown(datatype, 40)} is not one of {known}", field=where)
    return dtype


def _elements(where: str, raw: bytes | memoryview, count: int) -> list[bytes]:
    elements: list[bytes] = []
    place, size = 0, len(raw)
    while place < size and len(elements) <= count:
        if size - place < _LENGTH.size:
            raise InvalidArgument(f"{where}: {size - place} bytes are left over at its end", field=where)
        (length,) = _LENGTH.unpack_from(raw, place)
        place += _LENGTH.size
        if length > size - place:
            raise InvalidArgument(
                f"{where}: element {len(elements)} has {length} bytes by its length, but only {size - place} are there",
                field=where,
            )
        elements.append(bytes(raw[place : place + length]))
        place += length
    if len(elements) != count:
        more = "more than " if len(elements) > count else ""
        raise InvalidArgument(
            f"{where}: the data holds {more}{min(len(elements), count)} elements; by its shape there are {count}",
            field=where,
        )
    return elements


def _widened(upper: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """float32 of BF16."""
    return (upper.astype("<u4") << 16).view("<f4")
