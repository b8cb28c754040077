"""Which models a caller may see by their names: patterns, which the gateway tells the worker with each call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

HEADER = "x-ouzel-models"  # metadata of a call to the worker
_LONGEST = 4096  # bytes
_UNTOLD = "-"  # no list of patterns


def fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns fits (`fnmatch`; upper and lower case differ)."""
    return any(each == "*" or fnmatchcase(name, each) for each in patterns)


def told(*patterns: Sequence[str]) -> str:
    """What the gateway tells: lists of patterns, of each of which one must fit.

    Where that is too long for metadata, nothing fits, and so the worker's errors name no model but the one that was
    asked for. Whether the caller may ask for that one has been decided before.
    """
    text = json.dumps(patterns, separators=(",", ":"))
    return text if len(text) <= _LONGEST else _UNTOLD


def of(text: str) -> Callable[[str], bool]:
    """Whether a name fits by what `told` has told; nothing does where that cannot be read."""
    try:
        lists = json.loads(text)
        checked = [[str(each) for each in patterns] for patterns in lists]
    except (ValueError, TypeError):
        return lambda _name: False
    return lambda name: all(fits(name, patterns) for patterns in checked)
