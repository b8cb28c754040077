"""Parameters of recipes, as they come over the wire: numbers of two forms, and flags."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

from ouzel.errors import InvalidArgument
from ouzel_protos import parameters as codec
from ouzel_protos.v1 import explain_pb2

_LARGEST = 2.0**63


def plain(
    parameters: Mapping[str, explain_pb2.Parameter], whole: Container[str], *, flags: bool = False
) -> dict[str, Any]:
    """By name: int, float or bool.

    A whole number that was sent as a double, as JSON and many languages do, is an int where one is meant.

    Args:
        whole: names of the parameters that are whole numbers.
        flags: whether flags are taken.

    Raises:
        InvalidArgument: for a value of another type, or one that is not finite; it names the parameter.
    """
    found: dict[str, Any] = {}
    for key, parameter in parameters.items():
        field, kind = f"parameters.{key}", parameter.WhichOneof("value")
        if kind not in (("number", "integer", "flag") if flags else ("number", "integer")):
            what = "neither a number nor a flag" if flags else "no number"
            raise InvalidArgument(f"parameters.{key:.80}: is {what}", field=field)
        value = codec.decode(parameter)
        if not math.isfinite(value):
            raise InvalidArgument(f"parameters.{key:.80}: {value} is not finite", field=field)
        found[key] = _whole(value, field) if kind == "number" and key in whole else value
    return found


def _whole(value: float, field: str) -> int | float:
    """One that has a fraction stays as it is: whoever checks what it may be refuses it."""
    if abs(value) >= _LARGEST:
        raise InvalidArgument(f"{field:.91}: {value:g} is no whole number of 64 bits", field=field)
    return int(value) if value.is_integer() else value
