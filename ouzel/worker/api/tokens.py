"""Who calls: owners by their tokens, of which no more than digests is kept in memory."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ouzel import secret_files
from ouzel.errors import InvalidArgument

LOCAL = "local"  # owner of what is asked with the token that a worker makes for itself
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_SHORTEST = 16


class Tokens:
    """The owners of tokens.

    Args:
        owners: By token.

    Raises:
        InvalidArgument: A token is too short, or a name is not allowed.
    """

    def __init__(self, owners: Mapping[str, str]) -> None:
        for token, owner in owners.items():
            if len(token) < _SHORTEST:
                raise InvalidArgument(f"tokens: that of {owner:.80} has fewer than {_SHORTEST} characters")
            if not _OWNER.fullmatch(owner):
                raise InvalidArgument(f"tokens: {owner!r:.80} is not 1 to 63 letters, digits and . _ @ -")
        self._owners = {_digest(token): owner for token, owner in owners.items()}

    def owner(self, metadata: Iterable[tuple[Any, Any]] | None) -> str | None:
        """Who sent the metadata of a call.

        Args:
            metadata: With "authorization: Bearer TOKEN".

        Returns:
            The owner; None if the token is not known.
        """
        for key, value in metadata or ():
            if key == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
                # Looked up by digest, so that the time it takes tells nothing of a token.
                return self._owners.get(_digest(value.removeprefix("Bearer ")))
        return None


def read(path: Path) -> dict[str, str]:
    """Reads a file of tokens.

    Args:
        path: Of lines "OWNER TOKEN"; empty lines and those that begin with # are skipped.

    Returns:
        Owners by token.

    Raises:
        FailedPrecondition: Others may read it.
        InvalidArgument: A line is wrong, or it cannot be read.
    """
    owners: dict[str, str] = {}
    for number, line in enumerate(secret_files.read(path, "tokens").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise InvalidArgument(f"tokens: line {number} of {path} is not OWNER TOKEN")
        owners[words[1]] = words[0]
    return owners


def own(path: Path) -> str:
    """The token in this file, mode 0600, which is made if it is missing."""
    try:
        return secret_files.read(path).strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(32)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(token)
        Path(name).replace(path)
        return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
