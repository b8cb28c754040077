"""Texts from strangers: labels, file names, names of services, as people and spreadsheets may be shown them."""

from __future__ import annotations

import re

# What moves, hides or ends text: control characters, surrogates, marks and overrides of direction, characters without
# width, breaks of lines. Joiners (ZWJ, ZWNJ), which Persian, Sinhala and emoji need, are text.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
# What a spreadsheet takes for a formula: the signs, their wide forms, and white space that it may leave out.
_SIGNS, _SPACES = ("=", "+", "-", "@", "＝", "＋", "－", "＠"), ("\t", "\r", "\n")


def visible(text: str, longest: int = 80) -> str:
    r"""The text in one line, with nothing in it that a reader cannot see.

    Args:
        text: From anywhere.
        longest: Most characters, 2 or more; 0 is no limit.

    Returns:
        Characters that move, hide or end text are spelt out, as in "\u202e"; a longer text ends in "…".
    """
    spelt = _UNSEEN.sub(lambda each: each[0].encode("unicode_escape", "surrogatepass").decode(), text)
    return spelt if not longest or len(spelt) <= longest else f"{spelt[: longest - 1].rstrip()}…"


def cell(text: str) -> str:
    """The text for a CSV: with an apostrophe before it where a spreadsheet would run it as a formula."""
    return f"'{text}" if text.startswith(_SPACES) or text.lstrip().startswith(_SIGNS) else text
