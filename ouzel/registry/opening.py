"""The model store that a path or a URL names."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ouzel.buckets import located
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.registry.mirror import Mirror
from ouzel.registry.registry import Registry


def mirrored(place: str | Path, fetched: Path | None) -> tuple[Path, Mirror | None]:
    """What `ModelFiles` and `ModelStore` take: the folder where archives are on this machine, and what it follows.

    Args:
        place: A folder, or "s3://BUCKET/PREFIX".
        fetched: Folder on this machine for what is fetched from buckets; a folder needs none.

    Raises:
        InvalidArgument: It is another URL, or a package is missing.
        FailedPrecondition: The folder cannot be written.
    """
    known = located(place, "store")
    if isinstance(known, Path):
        return Path(place), None
    if fetched is None:
        raise InvalidArgument(f"store: {known[:80]} needs a folder for what is fetched", field="store")
    from ouzel.registry.bucket import BucketRegistry

    folder = fetched / "models" / hashlib.sha256(known.encode()).hexdigest()[:16]  # of this bucket alone
    try:
        return folder, Mirror(BucketRegistry(known), folder)
    except OSError as error:
        raise FailedPrecondition(f"{folder}, for what is fetched from {known}, cannot be written: {error}") from error


def open_registry(place: str | Path) -> Registry:
    """The store as agents see it.

    Args:
        place: A folder, or "s3://BUCKET/PREFIX".

    Raises:
        InvalidArgument: It is another URL, or a package is missing.
    """
    known = located(place, "store")
    if isinstance(known, Path):
        from ouzel.registry.folder import FolderRegistry

        return FolderRegistry(known)
    from ouzel.registry.bucket import BucketRegistry

    return BucketRegistry(known)
