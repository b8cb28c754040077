"""Parameters of methods and recipes, and names of enums: between Python and the wire. The only codec of both.

numpy is loaded only for parameters that are arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

from ouzel_protos.text import is_encodable, shown
from ouzel_protos.v1 import explain_pb2, job_pb2
from ouzel_protos.v1.tensor_pb2 import Tensor

# Names of the values of enums, as Python code, JSON and the command line have them. The first one is meant by the
# unspecified value, 0.
REDUCTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "max_abs": explain_pb2.MAX_ABS,
        "sum_abs": explain_pb2.SUM_ABS,
        "signed_sum": explain_pb2.SIGNED_SUM,
        "none": explain_pb2.NONE,
    }
)
SIZES: Mapping[str, Any] = MappingProxyType({"model": explain_pb2.MODEL_INPUT, "original": explain_pb2.ORIGINAL_IMAGE})
DTYPES: Mapping[str, Any] = MappingProxyType({"float32": Tensor.FLOAT32, "float16": Tensor.FLOAT16})
PROMOTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "never": job_pb2.FinetuneSpec.NEVER,
        "if_better": job_pb2.FinetuneSpec.IF_BETTER,
        "always": job_pb2.FinetuneSpec.ALWAYS,
        "if_grounded": job_pb2.FinetuneSpec.IF_GROUNDED,
    }
)
STATES: Mapping[str, Any] = MappingProxyType({name: number for name, number in job_pb2.Job.State.items() if number})


class BadParameter(ValueError):
    """A value that no parameter can hold. The message says what is wrong with it, without naming the parameter."""


def names_of(table: Mapping[str, Any]) -> dict[int, str]:
    """The reverse of one of the tables above.

    Args:
        table: Numbers by name.

    Returns:
        Names by number, with that of the unspecified value.
    """
    return {0: next(iter(table))} | {number: name for name, number in table.items()}


def encode(value: Any) -> explain_pb2.Parameter:
    """The message of a parameter.

    Args:
        value: A flag, a number, a text, an array, or a Tensor that is encoded already.

    Returns:
        A message that `decode` turns back.

    Raises:
        BadParameter: It is something else, an integer of more than 64 bits, a text that is no Unicode, or an array of a
            dtype that the wire does not carry.
    """
    match value:
        case bool():
            return explain_pb2.Parameter(flag=value)
        case Integral():
            if not -(2**63) <= int(value) < 2**63:
                raise BadParameter(f"{value} does not fit 64 bits")
            return explain_pb2.Parameter(integer=int(value))
        case Real():
            return explain_pb2.Parameter(number=float(value))
        case str():
            if not is_encodable(value):
                raise BadParameter(f"{shown(value, 80)} is no text of Unicode: it holds a lone surrogate")
            return explain_pb2.Parameter(text=value)
        case Tensor():
            return explain_pb2.Parameter(tensor=value)
    return _encode_array(value)


def decode(parameter: explain_pb2.Parameter) -> Any:
    """The Python value of a parameter.

    Args:
        parameter: The message.

    Returns:
        A bool, int, float, str or read-only array; None if the message holds no value.

    Raises:
        ValueError: Dtype, shape and data of a tensor do not fit each other.
    """
    kind = parameter.WhichOneof("value")
    if kind is None:
        return None
    if kind == "tensor":
        from ouzel_protos import tensors

        return tensors.decode(parameter.tensor)
    return getattr(parameter, kind)


def _encode_array(value: Any) -> explain_pb2.Parameter:
    import numpy as np

    if isinstance(value, np.bool_):
        return explain_pb2.Parameter(flag=bool(value))
    if not isinstance(value, np.ndarray):
        raise BadParameter(f"{value!r:.80} is neither a number, a text, a flag nor an image")
    from ouzel_protos import tensors

    try:
        return explain_pb2.Parameter(tensor=tensors.encode(value))
    except TypeError as error:
        raise BadParameter(str(error)) from None
