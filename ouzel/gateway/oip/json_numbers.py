"""JSON with long lists of numbers: tensors of an inference, which may be millions.

All at once, they would be as many objects, and nobody else could run until the last one is made. So lists of numbers
are cut out of the document, and read piece by piece, right into an array.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ouzel import bounded_json
from ouzel.bounded_json import elements, loads
from ouzel.errors import InvalidArgument

MOST = 10_000  # elements of a document without its long lists of numbers
_MOST_LISTS = 200_000  # nested in each other: so many lines have 64 pictures of 3 x 1000
_MOST_AXES = 8
_LONG = 4096  # bytes of a list that is cut out
_PIECE = 2**16  # bytes that are read at once
# A text, or what begins as a list and has nothing in it but numbers and lists. Linear: every repeat is possessive.
_NEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|\[[\[\]\s\d.,eE+-]*+', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]]")
_COMMA = re.compile(rb"\s*+,\s*+")
_SPACE = re.compile(rb"\s*+")


@dataclass(frozen=True)
class Numbers:
    """A long list of numbers, or of such lists, as it came.

    Attributes:
        text: Of the list.
    """

    text: bytes

    @property
    def count(self) -> int:
        """How many numbers there are, if it is what it seems to be."""
        return self.text.count(b",") + 1

    def array(self) -> npt.NDArray[Any]:
        """The numbers. Raises ValueError in words for callers."""
        return _array(self.text, 0)


def read(head: bytes, most: int) -> Any:
    """Reads a document.

    Args:
        head: Of a stranger.
        most: Numbers that its long lists may have together.

    Returns:
        The document, where the values of the members `data` of its `inputs` may be `Numbers`.

    Raises:
        InvalidArgument: It is no JSON, or has too many elements.
    """
    lists, objects, texts = head.count(b"["), head.count(b"{"), head.count(b'"') // 2
    if lists > _MOST_LISTS or objects > MOST or texts > 2 * MOST:
        raise InvalidArgument(
            f"body: has more than {_MOST_LISTS} lists, {MOST} objects or {2 * MOST} texts; send tensors as bytes",
            field="body",
        )
    if elements(head, MOST) <= MOST:
        return loads(head, "body", MOST, strict=True)
    mark = secrets.token_hex(8)
    found: list[Numbers] = []
    pieces: list[bytes] = []
    place = 0
    for start, end in _long(head):
        pieces += (head[place:start], f'"{mark}{len(found)}"'.encode())
        found.append(Numbers(head[start:end]))
        place = end
    if (count := sum(each.count for each in found)) > most:
        raise InvalidArgument(
            f"body: {count} numbers are more than {most}, all that the rows of one request can have", field="body"
        )
    hint = " beside lists of numbers"
    document = loads(b"".join((*pieces, head[place:])), "body", MOST, strict=True, hint=hint)
    inputs = document.get("inputs") if isinstance(document, dict) else None
    for each in inputs if isinstance(inputs, list) else ():
        data = each.get("data") if isinstance(each, dict) else None
        if isinstance(data, str) and data.startswith(mark):
            each["data"] = found[int(data.removeprefix(mark))]
    return document


def _long(head: bytes) -> Iterator[tuple[int, int]]:
    """Where long lists of numbers are."""
    for run in _NEXT.finditer(head):
        if run.end() - run.start() < _LONG or head[run.start()] != ord("["):
            continue
        for start, end in _lists(head, run.start(), run.end()):
            if end - start >= _LONG:
                yield start, end


def _lists(text: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the outermost lists are that end there."""
    depth = begun = 0
    for bracket in _BRACKET.finditer(text, start, end):
        if bracket.group() == b"[":
            begun, depth = (bracket.start() if not depth else begun), depth + 1
        elif depth:
            depth -= 1
            if not depth:
                yield begun, bracket.end()


def _array(text: bytes, axes: int) -> npt.NDArray[Any]:
    if axes >= _MOST_AXES:
        raise ValueError(f"their lists have more than {_MOST_AXES} axes")
    if b"[" not in text[1:]:
        return np.concatenate([_flat(piece) for piece in _pieces(text)])
    if len(text) <= _PIECE:
        try:
            return np.asarray(_values(text))
        except ValueError:
            raise ValueError("their lists are not all of the same length") from None
    arrays: list[npt.NDArray[Any]] = []
    place = 1
    for start, end in _lists(text, 1, len(text) - 1):
        between = _COMMA if arrays else _SPACE
        if (gap := between.match(text, place)) is None or gap.end() != start:
            raise ValueError("there is something between their lists that does not belong there")
        arrays.append(_array(text[start:end], axes + 1))
        if arrays[-1].shape != arrays[0].shape:
            raise ValueError("their lists are not all of the same length")
        place = end
    if text[place:-1].strip():
        raise ValueError("there is something behind their lists that does not belong there")
    return np.stack(arrays)


def _pieces(text: bytes) -> Iterator[bytes]:
    """The inside of a list, cut at commas."""
    start, last = 1, len(text) - 1
    while start <= last:
        cut = text.find(b",", min(start + _PIECE, last), last)
        cut = last if cut < 0 else cut
        yield text[start:cut]
        start = cut + 1


def _flat(piece: bytes) -> npt.NDArray[Any]:
    values = np.asarray(_values(b"[%b]" % piece))
    if not values.size:
        raise ValueError("a number is missing behind a comma")
    return values


def _values(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(bounded_json.reason(error)) from None
