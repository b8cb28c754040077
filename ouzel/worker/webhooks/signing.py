"""Signatures of Standard Webhooks (https://www.standardwebhooks.com), symmetric, version 1."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"
_KEYS = (24, 64)  # bytes


def key_of(secret: str) -> bytes:
    """The key in a secret, "whsec_" and base64 of 24 to 64 bytes.

    Raises:
        ValueError: It is something else. The message does not show it.
    """
    if not secret.startswith(_PREFIX):
        raise ValueError(f"a secret begins with {_PREFIX}")
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"what follows {_PREFIX} is not base64") from None
    if not _KEYS[0] <= len(key) <= _KEYS[1]:
        raise ValueError(f"the key has {len(key)} bytes, which is not within {_KEYS[0]}..{_KEYS[1]}")
    return key


def headers(secrets: Sequence[str], name: str, seconds: int, body: bytes) -> dict[str, str]:
    """The headers of a message.

    Args:
        secrets: One signature by each.
        name: Of the message: the same one if it is sent again.
        seconds: Since the epoch, of this attempt.
        body: As it is sent.

    Returns:
        Names and values.

    Raises:
        ValueError: A secret is none.
    """
    signed = b".".join((name.encode(), str(seconds).encode(), body))
    made = (base64.b64encode(hmac.digest(key_of(each), signed, hashlib.sha256)).decode() for each in secrets)
    return {
        "webhook-id": name,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{each}" for each in made),
    }
