"""Replaying an entry: is this the image that it is about, and what must be computed again to compare?"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ouzel.errors import DataLoss, FailedPrecondition
from ouzel.ledger.entry import IMAGES, Entry, salted_hash


@dataclass(frozen=True)
class Replay:
    """What an entry says of an image.

    Attributes:
        kind: Of the entry: says what must be computed again, "audit" or "explanation".
        time: Of the entry.
        image: SHA-256 of the image's bytes, in hex.
        position: Which of the entry's images it is; 0 is the first.
        facts: With what to compute again (model, weights, options), and what came out then.
    """

    kind: str
    time: str
    image: str
    position: int
    facts: Mapping[str, Any]


def replay(entry: bytes, salt: bytes | None, image: bytes) -> Replay:
    """Checks that an entry is about an image.

    Args:
        entry: Its bytes.
        salt: Its salt; None once it was forgotten.
        image: The image's bytes, as they were sent.

    Returns:
        What must be computed again.

    Raises:
        DataLoss: The image is not one of the entry's.
        FailedPrecondition: The entry is about no image, or its salt was deleted.
    """
    parsed = Entry.parse(entry)
    hashes = parsed.salted.get(IMAGES, ())
    if not hashes:
        raise FailedPrecondition(f"the entry ({parsed.kind}, {parsed.time}) is about no image")
    if salt is None:
        raise FailedPrecondition("the entry's salt was deleted: nobody can tell any more which image it is about")
    digest = hashlib.sha256(image).hexdigest()
    own = salted_hash(salt, IMAGES, digest)
    for position, each in enumerate(hashes):
        if hmac.compare_digest(own, each):
            return Replay(parsed.kind, parsed.time, digest, position, parsed.facts)
    raise DataLoss(f"the image (SHA-256 {digest}) is not one that the entry is about, or the salt is not the entry's")
