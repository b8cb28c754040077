"""What tells a model store from all others: 32 hexadecimal digits, which are made once."""

from __future__ import annotations

import re
import secrets

from ouzel.buckets import StorageAway

_FORM = re.compile(rb"[0-9a-f]{32}\n?")


def new_identity() -> bytes:
    """One for a store that has none."""
    return f"{secrets.token_hex(16)}\n".encode()


def read_identity(content: bytes | None, place: str) -> str:
    """An identity as it was kept.

    Args:
        content: Of the file or object; None if there is none.
        place: Its name, for the error.

    Returns:
        It; "" if there is none.

    Raises:
        StorageAway: It is damaged. Nobody must take that for a store without an identity.
    """
    if content is None:
        return ""
    if not _FORM.fullmatch(content):
        raise StorageAway(f"{place} is damaged; it is to hold 32 hexadecimal digits, those of the store")
    return content.decode().strip()
