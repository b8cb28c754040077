"""The codec: what goes in comes out, bytes are little-endian C order, and what does not fit is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ouzel_protos import tensors
from ouzel_protos.v1.tensor_pb2 import Tensor

NAMES = ("float32", "float16", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
arrays = hnp.arrays(
    st.sampled_from(NAMES).flatmap(lambda name: st.sampled_from([np.dtype(name), np.dtype(name).newbyteorder(">")])),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)


@given(arrays)
def test_round_trip_over_the_wire(array):
    back = tensors.decode(Tensor.FromString(tensors.encode(array).SerializeToString()))
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("<")
    assert back.tobytes() == array.astype(back.dtype).tobytes()  # bits, so that NaN and -0.0 count


@given(arrays)
def test_the_layout_in_memory_does_not_matter(array):
    for view in (array.T, array[..., ::-1] if array.ndim else array):
        assert tensors.encode(view) == tensors.encode(view.copy(order="C"))


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=5))
def test_bytes_are_little_endian_in_c_order(values):
    assert tensors.encode(np.array(values, np.float32)).data == struct.pack(f"<{len(values)}f", *values)


def test_a_decoded_array_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        tensors.decode(tensors.encode(np.zeros(3)))[0] = 1


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([object()]), np.array([1], np.uint32)])
def test_dtypes_that_the_wire_does_not_carry_are_refused(array):
    with pytest.raises(TypeError, match="cannot be sent"):
        tensors.encode(array)


@pytest.mark.parametrize(
    ("tensor", "named"),
    [
        (Tensor(shape=[1], data=b"\0"), "dtype 0"),
        (Tensor(dtype=Tensor.UINT8, shape=[-1, -1], data=b"\0"), "negative extent"),
        (Tensor(dtype=Tensor.FLOAT32, shape=[2], data=b"\0" * 7), "needs 8 bytes, data has 7"),
        (Tensor(dtype=Tensor.UINT8, shape=[2**31 - 1] * 4, data=b""), "needs"),
    ],
)
def test_a_tensor_that_does_not_fit_itself_is_refused(tensor, named):
    with pytest.raises(ValueError, match=named):
        tensors.decode(tensor)
