"""Recipes and their parameters, as they come over the wire."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ouzel.checks import one_of, parameter
from ouzel.errors import InvalidArgument
from ouzel_protos import parameters as codec
from ouzel_protos.recipes import Parameters
from ouzel_protos.v1 import explain_pb2

_LARGEST = 2.0**63


def checked(
    recipe: str, parameters: Mapping[str, explain_pb2.Parameter], recipes: Mapping[str, Parameters]
) -> dict[str, Any]:
    """The parameters of a recipe, checked.

    Args:
        recipe: Name of the recipe.
        parameters: Its parameters, as they were sent.
        recipes: What the parameters of each recipe may be.

    Returns:
        int, float or bool by name.

    Raises:
        InvalidArgument: There is no such recipe, or a parameter that it does not have or that has a wrong value.
    """
    one_of("recipe", recipe, tuple(recipes))
    allowed = recipes[recipe]
    values = plain(parameters, allowed)
    for key, value in values.items():
        if key not in allowed:
            raise InvalidArgument(
                f"parameters.{key:.80}: {recipe} knows only {', '.join(allowed)}", field=f"parameters.{key}"
            )
        parameter(f"parameters.{key}", value, allowed[key])
    return values


def plain(parameters: Mapping[str, explain_pb2.Parameter], allowed: Parameters) -> dict[str, Any]:
    """Parameters as Python has them.

    An integer that was sent as a double, as JSON and many languages do, is an int where one is meant.

    Args:
        parameters: As they were sent.
        allowed: What they may be. Flags are taken if some of them are.

    Returns:
        int, float or bool by name.

    Raises:
        InvalidArgument: A value is of another type, or not finite.
    """
    flags = any(each.kind is bool for each in allowed.values())
    values: dict[str, Any] = {}
    for key, sent in parameters.items():
        field, kind = f"parameters.{key}", sent.WhichOneof("value")
        if kind not in (("number", "integer", "flag") if flags else ("number", "integer")):
            what = "neither a number nor a flag" if flags else "no number"
            raise InvalidArgument(f"parameters.{key:.80}: is {what}", field=field)
        value = codec.decode(sent)
        if not math.isfinite(value):
            raise InvalidArgument(f"parameters.{key:.80}: {value} is not finite", field=field)
        values[key] = (
            _whole(value, field) if kind == "number" and key in allowed and allowed[key].kind is int else value
        )
    return values


def _whole(value: float, field: str) -> int | float:
    """A number with a fraction stays as it is; the check of its range refuses it."""
    if abs(value) >= _LARGEST:
        raise InvalidArgument(f"{field:.91}: {value:g} is not an integer of 64 bits", field=field)
    return int(value) if value.is_integer() else value
