"""The texts of API keys: "ouzel_", 10 characters that name the key, 32 secret ones, and 6 of a checksum.

The prefix lets scanners of secrets find keys that were published by mistake. The checksum tells them, and the gateway,
a typing error from a key, without a look at any store. The secret part has 190 random bits.

Stores keep the SHA-256 of the whole text. A slow hash such as Argon2 protects passwords, which people choose and
others guess; 190 random bits cannot be guessed at any speed, and a slow hash in each call would let strangers keep the
gateway busy.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

PREFIX = "ouzel_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID, _SECRET, _CHECK = 10, 32, 6
_FORM = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_ID}}})[0-9A-Za-z]{{{_SECRET}}}([0-9A-Za-z]{{{_CHECK}}})", re.ASCII)


def new_key() -> str:
    """A new key, at random."""
    body = PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_ID + _SECRET))
    return body + _checksum(body)


def key_id(text: str) -> str | None:
    """The characters that name a key; None if the text is no key, or has a typing error."""
    match = _FORM.fullmatch(text)
    return match[1] if match and _checksum(text[:-_CHECK]) == match[2] else None


def digest(text: str) -> bytes:
    """What stores keep of a key: 32 bytes."""
    return hashlib.sha256(text.encode()).digest()


def _checksum(body: str) -> str:
    number, out = zlib.crc32(body.encode()), ""
    for _ in range(_CHECK):  # 62^6 > 2^32
        number, digit = divmod(number, len(_ALPHABET))
        out = _ALPHABET[digit] + out
    return out
