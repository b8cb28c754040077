"""Where data sets lie: the files of each owner by their digest, and small records of what they mean, by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ouzel.buckets import is_bucket
from ouzel.durable_files import FULL, written
from ouzel.errors import InvalidArgument, ResourceExhausted
from ouzel.worker.artifacts.folder import FolderArtifacts
from ouzel.worker.artifacts.protocol import Artifacts

FIELD = "uploads"  # the option that names it


class Storage(Protocol):
    """The data sets of all owners. Methods raise StorageAway while a bucket does not answer."""

    def files(self, owner: str) -> Artifacts:
        """An owner's files."""

    def files_place(self, owner: str) -> tuple[str, str]:
        """Where they are, and the folder of their cache ("" without one), for another process."""

    def owners(self) -> list[str]:
        """Whoever has files."""

    def read(self, owner: str, name: str) -> bytes | None:
        """A record; None if there is none. Raises DataLoss where it can be seen to be damaged."""

    def all(self, owner: str, suffix: str) -> Mapping[str, bytes]:
        """The records of an owner whose names end so, by name."""

    def write(self, owner: str, name: str, content: bytes) -> None:
        """Writes a record durably. Raises ResourceExhausted."""

    def delete(self, owner: str, name: str) -> None:
        """Removes a record, if it is there."""

    def total(self) -> int:
        """Size of all that is there in bytes."""

    def check(self) -> None:
        """Whether it can be written. Raises Unavailable."""


class FolderStorage:
    """Data sets in a folder: OWNER/files and OWNER/manifests.

    Args:
        folder: Shared by all workers of a store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def files(self, owner: str) -> FolderArtifacts:
        """See `Storage`."""
        return FolderArtifacts(self._of(owner) / "files")

    def files_place(self, owner: str) -> tuple[str, str]:
        """See `Storage`."""
        return str(self._of(owner) / "files"), ""

    def owners(self) -> list[str]:
        """See `Storage`."""
        return [path.parent.name for path in self._folder.glob("*/files")]

    def read(self, owner: str, name: str) -> bytes | None:
        """See `Storage`."""
        try:
            return (self._records(owner) / name).read_bytes()
        except FileNotFoundError:
            return None

    def all(self, owner: str, suffix: str) -> Mapping[str, bytes]:
        """See `Storage`."""
        names = [path.name for path in self._records(owner).glob(f"*{suffix}")]
        contents = ((name, self.read(owner, name)) for name in names)
        return {name: content for name, content in contents if content is not None}

    def write(self, owner: str, name: str, content: bytes) -> None:
        """See `Storage`."""
        folder = self._records(owner)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with written(folder / name) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise ResourceExhausted(f"the disk of the data sets is full ({error.strerror})") from error

    def delete(self, owner: str, name: str) -> None:
        """See `Storage`."""
        (self._records(owner) / name).unlink(missing_ok=True)

    def total(self) -> int:
        """See `Storage`."""
        total = 0
        for where, _, files in os.walk(self._folder):
            for each in files:
                try:
                    total += os.stat(os.path.join(where, each)).st_size
                except OSError:  # gone meanwhile
                    continue
        return total

    def check(self) -> None:
        """See `Storage`: it is made when something is written."""

    def _of(self, owner: str) -> Path:
        # Owners are names that tokens.py has checked: no separators, and never "." or "..".
        return self._folder / owner

    def _records(self, owner: str) -> Path:
        return self._of(owner) / "manifests"


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
