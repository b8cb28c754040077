"""Texts that people see and type: which form they are kept in, and what a label may hold. Standard library only.

The same word can be written in several ways in Unicode: macOS decomposes file names (NFD), Linux and the web compose
them (NFC). Every label and path is kept composed, and what a caller sends is composed before it is compared.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST_LABEL = 200  # characters
# Control characters, surrogates, and the two separators that break a line. Joiners (ZWJ, ZWNJ), which Persian, Sinhala
# and emoji need, and spaces of other widths are text.
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


def nfc(text: str) -> str:
    """The text in its composed form, in which texts that look the same are the same."""
    return unicodedata.normalize("NFC", text)


def is_line(text: str) -> bool:
    """Whether the text can be shown in one line: no control characters, no surrogates, no line breaks."""
    return text.isprintable() or _BREAKS.search(text) is None


def is_label(text: object) -> bool:
    """Whether the text can name a class: one line of 1 to 200 characters that are not all spaces."""
    return isinstance(text, str) and bool(text.strip()) and len(text) <= LONGEST_LABEL and is_line(text)


def is_encodable(text: str) -> bool:
    """Whether the text can be sent and written as UTF-8: it holds no lone surrogate."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def shown(text: str, longest: int = 200) -> str:
    """The text in quotes, for an error: a long one is cut, and what cannot be printed is escaped."""
    return repr(text[:longest])
