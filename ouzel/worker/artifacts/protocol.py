"""What every storage of files promises: by their digest, whole or not there, and never given out unchecked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ouzel.buckets import StorageAway
from ouzel.worker.artifacts.incoming import Incoming

__all__ = ["DAY", "Artifacts", "Link", "StorageAway"]

DAY = 86_400.0


@dataclass(frozen=True)
class Link:
    """Where a file can be had without asking a worker.

    Attributes:
        url: To be kept secret: whoever has it can read the file.
        expires: Until when, in seconds since the epoch.
    """

    url: str
    expires: float


class Artifacts(Protocol):
    """Files by the SHA-256 of their content. All workers of a job store share them.

    All methods raise StorageAway while the storage does not answer.
    """

    def put(self, content: bytes | Iterable[bytes]) -> tuple[str, int]:
        """Stores a file durably.

        Args:
            content: The bytes, in one piece or several.

        Returns:
            Digest and size in bytes.

        Raises:
            ResourceExhausted: The disk is full.
        """

    def incoming(self) -> AbstractContextManager[Incoming]:
        """Opens a file that comes in pieces; what is not kept when the block ends is removed."""

    def size(self, digest: str) -> int | None:
        """Size of a file in bytes; None if it is not stored."""

    def hold(self, digests: Sequence[str]) -> Mapping[str, int]:
        """Makes files young again, so that `collect` spares them for a while.

        Args:
            digests: Of files that may be stored.

        Returns:
            Sizes in bytes of those that are stored.
        """

    def get(self, digest: str) -> bytes:
        """The whole content. Raises NotFound or DataLoss."""

    def read(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """The content from `offset` on, in chunks of at most 1 MiB.

        All of the file is checked before its first byte is given out. Raises NotFound or DataLoss.
        """

    def link(self, digest: str, seconds: float) -> Link | None:
        """A link to a file; None where the storage has none, or the file is not stored.

        Args:
            digest: Of the file.
            seconds: How long it is valid.
        """

    def collect(self, referenced: Callable[[Sequence[str]], set[str]], age: float = DAY) -> int:
        """Removes old files that nothing refers to. A file that is stored again meanwhile is not removed.

        Args:
            referenced: Which of some digests are still needed.
            age: Age in seconds from which on a file may be removed.

        Returns:
            How many files were removed.
        """

    def discard(self, digest: str) -> None:
        """Removes a file that nothing refers to any longer."""

    def total(self) -> int:
        """Size of all files in bytes."""

    def check(self) -> None:
        """Whether it can be written: an operator's mistake is to be told at the start."""
