"""Files on their way in: beside their place, hashed as they come."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ouzel.durable_files import FULL
from ouzel.errors import InvalidArgument, ResourceExhausted


class Incoming:
    """A file that comes in pieces, see `Artifacts.incoming`.

    Args:
        file: Takes the pieces.
        place: Called with the file, which is complete, and its digest; makes it durable.
    """

    def __init__(self, file: IO[bytes], place: Callable[[IO[bytes], str], None]) -> None:
        self._file, self._place = file, place
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, chunk: bytes | memoryview) -> None:
        """Adds a piece. Raises ResourceExhausted if the disk is full."""
        with disk_full():
            self._file.write(chunk)
        self._sha256.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Throws away what came; other pieces follow."""
        self._file.seek(0)
        self._file.truncate()
        self._sha256 = hashlib.sha256()
        self.size = 0

    def keep(self, expected: str = "") -> tuple[str, int]:
        """Makes the file durable.

        Args:
            expected: Hex SHA-256 that it must have; "" allows any.

        Returns:
            Digest and size in bytes.

        Raises:
            InvalidArgument: It has another digest.
            ResourceExhausted: The disk is full.
            StorageAway: The storage does not answer.
        """
        digest = self._sha256.hexdigest()
        if expected and digest != expected:
            raise InvalidArgument(f"sha256: the bytes have {digest}, not {expected}", field="sha256")
        with disk_full():
            self._file.flush()
            self._place(self._file, digest)
        return digest, self.size


@contextmanager
def spooled(folder: Path, place: Callable[[IO[bytes], str], None]) -> Iterator[Incoming]:
    """A file in a folder, which is removed unless `place` has moved it.

    Args:
        folder: For files that are not complete.
        place: See `Incoming`.
    """
    with disk_full():
        file = tempfile.NamedTemporaryFile(dir=folder, delete=False)  # noqa: SIM115 - closed below
    try:
        yield Incoming(file, place)
    finally:
        with suppress(OSError):  # what could not be flushed is of no more interest
            file.close()
        Path(file.name).unlink(missing_ok=True)


@contextmanager
def disk_full() -> Iterator[None]:
    """Errors of a full disk become ResourceExhausted."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise ResourceExhausted(f"the disk of the artifacts is full ({error.strerror})") from error
        raise
