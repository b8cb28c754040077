"""The storage of data sets that a path or a URL names."""

from __future__ import annotations

from pathlib import Path

from ouzel.buckets import is_bucket
from ouzel.errors import InvalidArgument
from ouzel.worker.datasets.folder_storage import FolderStorage
from ouzel.worker.datasets.storage import FIELD, Storage


def open_storage(place: str | Path, cache: Path | None = None) -> Storage:
    """The storage that a path or a URL names.

    Args:
        place: A folder, or "s3://BUCKET/PREFIX".
        cache: Folder on this machine for files of a bucket; a folder needs none.

    Raises:
        InvalidArgument: A package or the cache is missing.
    """
    if not is_bucket(place):
        return FolderStorage(Path(place))
    if cache is None:
        raise InvalidArgument(f"{FIELD}: {str(place)[:80]} needs a folder for its cache", field=FIELD)
    from ouzel.worker.datasets.bucket_storage import BucketStorage

    return BucketStorage(str(place), cache)
