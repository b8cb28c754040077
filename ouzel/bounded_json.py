"""JSON that strangers sent, within bounds that are looked at before a single object is made.

`json.loads` makes an object of every `{}`, and holds up all other threads until it has made the last one: two bytes
cost a hundred, and a body of a few MiB stops a service for seconds.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ouzel.errors import InvalidArgument

MOST = 10_000  # elements of a document that nobody has said more of
_MARKS = (b",", b"{", b"[")  # each element but the first has one of these before it
# A text, also one that does not end. Every repeat is possessive, so that the time is linear.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


def elements(data: bytes, most: int) -> int:
    """How many elements a document has, about: values of lists and members of objects.

    Args:
        data: The document.
        most: Where counting exactly may end.

    Returns:
        The number of commas and opening brackets outside of texts; more than `most` if there are more.
    """
    count = sum(map(data.count, _MARKS))
    if count <= most or data.count(b'"') > 4 * (most + 1):  # two texts to an element, two quotes to a text
        return count
    return sum(map(_TEXT.sub(b"", data).count, _MARKS))


def check_elements(data: bytes, where: str, most: int, *, field: str | None = None, hint: str = "") -> None:
    """Refuses a document with more than so many elements. Raises InvalidArgument."""
    if elements(data, most) > most:
        raise InvalidArgument(
            f"{where}: has more than {most} values and members{hint}", field=where if field is None else field
        )


def loads(
    data: bytes | str, where: str, most: int = MOST, *, field: str | None = None, hint: str = "", strict: bool = False
) -> Any:
    """Reads a document.

    Args:
        data: Of a stranger.
        where: What it is, at the beginning of messages.
        most: Elements that it may have.
        field: Of the error; None is `where`.
        hint: What to do where there are more.
        strict: Whether NaN and Infinity, which are no JSON, are refused.

    Raises:
        InvalidArgument: It is no JSON, or has too many elements.
    """
    at = where if field is None else field
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
    check_elements(raw, where, most, field=at, hint=hint)
    try:
        return json.loads(raw, parse_constant=_no_constant if strict else None)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{where}: not valid JSON ({reason(error)})", field=at) from None


def reason(error: Exception) -> str:
    """What was wrong with a document, without names of our insides."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}: line {error.lineno} column {error.colno}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not of UTF-8"
    if isinstance(error, _ConstantError):
        return f"{error} is no number of JSON"
    return "a number in it has too many digits"  # the only other one that the reader raises


class _ConstantError(ValueError):
    pass


def _no_constant(name: str) -> float:
    raise _ConstantError(name)
