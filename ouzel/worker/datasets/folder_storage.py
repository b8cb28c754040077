"""Data sets in a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ouzel.durable_files import FULL, written
from ouzel.errors import ResourceExhausted
from ouzel.worker.artifacts.folder import FolderArtifacts


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
