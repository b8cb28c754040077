"""The storage that a path or a URL names."""

from __future__ import annotations

from pathlib import Path

from ouzel.errors import InvalidArgument
from ouzel.ledger.published.folder import Folder
from ouzel.ledger.published.storage import Storage


def open_storage(place: str | Path) -> Storage:
    """The storage that a path or a URL names.

    Args:
        place: A folder, "s3://BUCKET/PREFIX", or "https://..." (which cannot be written).

    Raises:
        InvalidArgument: It is another URL, or a package is missing.
    """
    text = str(place)
    if text.startswith("s3://"):
        from ouzel.ledger.published.bucket import Bucket

        return Bucket(text)
    if text.startswith(("http://", "https://")):
        from ouzel.ledger.published.website import Website

        return Website(text)
    if "://" in text:
        raise InvalidArgument(f"tiles: {text[:80]!r} is not a folder, s3://BUCKET/PREFIX or https://...", field="tiles")
    return Folder(Path(text))
