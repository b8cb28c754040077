"""Checks of arguments, each of which raises an InvalidArgument that names the field, the value and the limit.

No torch: services use it too.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Collection, Iterable

from ouzel.errors import InvalidArgument
from ouzel_protos.limits import out_of_range, too_small
from ouzel_protos.recipes import Range

_SHOWN = 80  # characters of a value in a message


def within(field: str, value: float, least: float, most: float, *, unit: str = "") -> None:
    """Refuses a value outside of `least`..`most`, both included, and NaN.

    Args:
        field: The argument, as the caller knows it: `parameters.steps`.
        value: What was given.
        least: The smallest value that is allowed.
        most: The largest value that is allowed.
        unit: Written behind the numbers, as in "s".
    """
    if problem := out_of_range(value, least, most, unit):
        raise InvalidArgument(f"{field}: {problem}", field=field)


def at_least(field: str, value: float, least: float) -> None:
    """Refuses a value below `least`, and NaN. Arguments as those of `within`."""
    if problem := too_small(value, least):
        raise InvalidArgument(f"{field}: {problem}", field=field)


def one_of(field: str, value: object, choices: Collection[str]) -> None:
    """Refuses a value that is not among `choices`; the message lists them and names the nearest.

    Args:
        field: The argument, as the caller knows it.
        value: What was given.
        choices: What is allowed.
    """
    if not isinstance(value, str) or value not in choices:
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise InvalidArgument(f"{field}: {value!r:.{_SHOWN}} is not one of {', '.join(choices)}{hint}", field=field)


def parameter(field: str, value: object, allowed: Range) -> None:
    """Refuses a value that a parameter of a recipe may not have.

    Args:
        field: The argument, as the caller knows it: `parameters.steps`.
        value: What was given.
        allowed: What it may be.
    """
    if problem := allowed.problem(value):
        raise InvalidArgument(f"{field}: {problem}", field=field)


def did_you_mean(text: str, names: Iterable[str], *, prefix: str = "") -> str:
    """The end of a message that names what is near: "; did you mean 'a', 'b'?".

    Args:
        text: What was typed.
        names: What there is.
        prefix: Written before each name.

    Returns:
        "" if nothing is near.
    """
    folded = {name.casefold(): name for name in names if name}
    near = [prefix + folded[name] for name in difflib.get_close_matches(text.casefold()[:200], folded, n=3)]
    return f"; did you mean {', '.join(map(repr, near))}?" if near else ""


def is_loopback(host: str) -> bool:
    """Whether only this machine can call that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
