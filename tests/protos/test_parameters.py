"""The one codec of parameters."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from ouzel_protos import parameters, tensors
from ouzel_protos.v1 import explain_pb2, job_pb2
from ouzel_protos.v1.tensor_pb2 import Tensor


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, "flag"),
        (np.bool_(False), "flag"),
        (7, "integer"),
        (-(2**63), "integer"),
        (np.int32(7), "integer"),
        (0.5, "number"),
        (np.float32(0.5), "number"),
        (math.inf, "number"),
        ("blocks.6", "text"),
        ("", "text"),
    ],
)
def test_there_and_back(value: Any, kind: str) -> None:
    message = parameters.encode(value)
    back = parameters.decode(explain_pb2.Parameter.FromString(message.SerializeToString()))
    assert message.WhichOneof("value") == kind
    assert back == value
    assert type(back) in (bool, int, float, str)


def test_arrays() -> None:
    array = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    assert np.array_equal(parameters.decode(parameters.encode(array)), array)
    assert parameters.encode(tensors.encode(array)) == parameters.encode(array)
    with pytest.raises(ValueError, match="needs 4 bytes"):
        parameters.decode(explain_pb2.Parameter(tensor=Tensor(dtype=Tensor.FLOAT32, shape=[1])))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**63, "^9223372036854775808 does not fit 64 bits$"),
        ("\ud800", "is no text of Unicode: it holds a lone surrogate$"),
        (np.zeros(2, dtype=complex), "^dtype complex128 cannot be sent"),
        ([1], r"^\[1\] is neither a number, a text, a flag nor an image$"),
        (None, "^None is neither"),
    ],
)
def test_what_no_parameter_can_hold(value: Any, message: str) -> None:
    with pytest.raises(parameters.BadParameter, match=message):
        parameters.encode(value)


def test_nothing_is_none() -> None:
    assert parameters.decode(explain_pb2.Parameter()) is None


def test_every_number_of_the_enums_has_a_name() -> None:
    for table, enum in (
        (parameters.REDUCTIONS, explain_pb2.ChannelReduction),
        (parameters.SIZES, explain_pb2.MapSize),
        (parameters.PROMOTIONS, job_pb2.FinetuneSpec.Promotion),
        (parameters.STATES, job_pb2.Job.State),
    ):
        assert sorted(parameters.names_of(table)) == sorted(enum.values())
    assert parameters.names_of(parameters.DTYPES)[0] == "float32"


def test_numpy_is_not_loaded_for_numbers() -> None:
    """The job service reads parameters, and needs no numpy."""
    program = "import sys; from ouzel_protos import parameters as p; p.decode(p.encode(7)); "
    program += "print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
