"""Where the published files of a log lie. A checkpoint only ever replaces the one that was read before."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from ouzel.errors import Unavailable


class Storage(Protocol):
    """Files by path, such as "tile/0/000". Writes are durable when they return."""

    def read(self, path: str) -> bytes | None:
        """A file; None if there is none. Raises Unavailable."""

    def paths(self) -> list[str] | None:
        """All files; None if they cannot be listed."""

    def create(self, path: str, content: bytes) -> None:
        """Writes a file that never changes.

        Raises:
            DataLoss: There is one with other content.
            ResourceExhausted: The disk is full.
            Unavailable: The storage does not answer.
        """

    def swap(self, old: bytes | None, new: bytes) -> None:
        """Puts a checkpoint in the place of `old`; None is that of no checkpoint.

        Raises:
            Conflict: Another one is there.
        """

    def delete(self, path: str) -> None:
        """Removes a file, or a folder of files ("tile/0/000.p"), if it is there."""

    def locked(self, deadline: float) -> AbstractContextManager[None]:
        """Keeps other publishers away where the storage can.

        Args:
            deadline: Of `time.monotonic`. Raises DeadlineExceeded.
        """


class Conflict(Unavailable):
    """Somebody else has published meanwhile."""
