"""How a number beyond its limits is refused: the words that the library, the services and the client share."""

from __future__ import annotations

_LONG = 10**80


def out_of_range(value: float, least: float, most: float, unit: str = "") -> str:
    """What is wrong with a value that has to be in `least`..`most`, both included.

    Args:
        value: What was given.
        least: The smallest value that is allowed.
        most: The largest value that is allowed.
        unit: Written behind the numbers, as in "s".

    Returns:
        To be written behind the name of the field; "" if the value is within. NaN never is.
    """
    if least <= value <= most:
        return ""
    behind = f" {unit}" if unit else ""
    return f"{_number(value)}{behind} is not within {_number(least)}..{_number(most)}{behind}"


def too_small(value: float, least: float) -> str:
    """What is wrong with a value that has to be `least` or more; "" if it is. NaN never is."""
    return "" if value >= least else f"{_number(value)} is less than {_number(least)}"


def _number(value: float) -> str:
    """Short where that is exact: 0.5, 2, 1e+06. In full elsewhere, or 1.0000001 would not be seen to be above 1."""
    if isinstance(value, int):
        return str(value) if abs(value) < _LONG else "a number of more than 80 digits"  # floats end, and str ends later
    short = f"{value:g}"
    return str(value) if float(short) != value else short
