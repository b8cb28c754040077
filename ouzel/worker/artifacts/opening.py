"""The storage of files that a path or a URL names."""

from __future__ import annotations

from pathlib import Path

from ouzel.buckets import is_bucket
from ouzel.errors import InvalidArgument
from ouzel.worker.artifacts.folder import FolderArtifacts
from ouzel.worker.artifacts.protocol import Artifacts


def open_artifacts(place: str | Path, cache: Path | None = None, field: str = "artifacts") -> Artifacts:
    """The storage that a path or a URL names.

    Args:
        place: A folder, or "s3://BUCKET/PREFIX".
        cache: Folder on this machine for files of a bucket; a folder needs none.
        field: Of the option that names the place, for messages.

    Raises:
        InvalidArgument: It is another URL, or a package is missing.
    """
    if not is_bucket(place):
        return FolderArtifacts(Path(place))
    if cache is None:
        raise InvalidArgument(f"{field}: {str(place)[:80]} needs a folder for its cache", field=field)
    from ouzel.worker.artifacts.bucket import BucketArtifacts

    return BucketArtifacts(str(place), cache, field)
