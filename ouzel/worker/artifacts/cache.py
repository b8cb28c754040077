"""Files of a bucket on the disk of this machine, as many as have room."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from ouzel.errors import DataLoss, NotFound
from ouzel.worker.artifacts.folder import FolderArtifacts
from ouzel.worker.artifacts.incoming import Incoming
from ouzel.worker.artifacts.protocol import StorageAway

ROOM = 10 * 2**30  # bytes
_TRIES = 3


class Cache:
    """Files that can be fetched again. Those that were used last stay.

    Several processes may use one folder. A file that is open stays readable when it is removed.

    Args:
        folder: Is made if it is missing.
        room: Bytes that its files may have together.
    """

    def __init__(self, folder: Path, room: int = ROOM) -> None:
        self._held, self._room = FolderArtifacts(folder, durable=False), room
        self.spool = folder / "incoming"

    def open(self, digest: str, fetch: Callable[[Incoming], None]) -> IO[bytes]:
        """A file that has been checked, for reading.

        Args:
            digest: Of the file.
            fetch: Writes it, and keeps it, if it is not here.

        Raises:
            NotFound, DataLoss: As `fetch` does.
            ResourceExhausted: The disk is full.
            StorageAway: Others need all the room.
        """
        for _ in range(_TRIES):
            try:
                file = self._held.open(digest)
                self._held.hold([digest])
                return file
            except NotFound:
                pass
            except DataLoss:  # of this disk; the bucket may be sound
                self._held.discard(digest)
            with self._held.incoming() as incoming:
                fetch(incoming)
                size = incoming.size
            # To look at all files takes long; so it is done once for each sixteenth of the room, on average and over
            # all processes.
            if random.random() * self._room <= 16 * size:
                self._trim(digest)
        raise StorageAway(f"artifact {digest} is removed from the cache again and again")

    def discard(self, digest: str) -> None:
        """Removes a file."""
        with suppress(NotFound):
            self._held.discard(digest)

    def clean(self) -> None:
        """Removes what processes that were killed have left."""
        self._held.collect(set)

    def _trim(self, spared: str) -> None:
        """Removes the files that were not used for longest, until the others have room."""
        size = 0
        for _, path, bytes_ in sorted(self._held.files(), reverse=True):
            size += bytes_
            if size > self._room and path.name != spared:
                path.unlink(missing_ok=True)
