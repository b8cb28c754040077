"""Where data sets lie: the files of each owner by their digest, and small records of what they mean, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

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
