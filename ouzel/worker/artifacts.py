"""Files that jobs leave behind, by the SHA-256 of their content.

A file is written beside its place, synced, and moved there: under its name it is whole or not there at all. It is
hashed again whenever it is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ouzel.durable_files import FULL, sync_folder
from ouzel.errors import DataLoss, InvalidArgument, NotFound, ResourceExhausted

CHUNK = 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Incoming:
    """A file that comes in pieces, see `Artifacts.incoming`."""

    def __init__(self, file: IO[bytes], place: Callable[[str], Path]) -> None:
        self._file, self._place = file, place
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """Adds a piece. Raises ResourceExhausted if the disk is full."""
        with _disk_full():
            self._file.write(chunk)
        self._sha256.update(chunk)
        self.size += len(chunk)

    def keep(self, expected: str = "") -> tuple[str, int]:
        """Makes the file durable.

        Args:
            expected: Hex SHA-256 that it must have; "" allows any.

        Returns:
            Digest and size in bytes.

        Raises:
            InvalidArgument: It has another digest.
            ResourceExhausted: The disk is full.
        """
        digest = self._sha256.hexdigest()
        if expected and digest != expected:
            raise InvalidArgument(f"sha256: the bytes have {digest}, not {expected}", field="sha256")
        with _disk_full():
            self._file.flush()
            os.fsync(self._file.fileno())
            place = self._place(digest)
            place.parent.mkdir(exist_ok=True)
            Path(self._file.name).replace(place)
            for folder in (place.parent, place.parent.parent):
                sync_folder(folder)
        return digest, self.size


class Artifacts:
    """Files by the SHA-256 of their content.

    Args:
        folder: Is made if it is missing. All workers of a store share it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, content: bytes | Iterable[bytes]) -> tuple[str, int]:
        """Stores a file durably.

        Args:
            content: The bytes, in one piece or several.

        Returns:
            Digest and size in bytes.

        Raises:
            ResourceExhausted: The disk is full.
        """
        with self.incoming() as incoming:
            for chunk in (content,) if isinstance(content, bytes) else content:
                incoming.write(chunk)
            return incoming.keep()

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """Opens a file that comes in pieces; what is not kept when the block ends is removed."""
        with _disk_full():
            file = tempfile.NamedTemporaryFile(dir=self._incoming, delete=False)  # noqa: SIM115 - closed below
        try:
            yield Incoming(file, self._place)
        finally:
            with suppress(OSError):  # what could not be flushed is of no more interest
                file.close()
            Path(file.name).unlink(missing_ok=True)

    def size(self, digest: str) -> int | None:
        """Size of a file in bytes; None if it is not stored."""
        try:
            return self._place(digest).stat().st_size
        except (FileNotFoundError, NotFound):
            return None

    def path(self, digest: str) -> Path:
        """Path of a file, for reading. Raises NotFound."""
        if self.size(digest) is None:
            raise NotFound(f"artifact {digest:.80} is not there any more")
        return self._place(digest)

    def get(self, digest: str) -> bytes:
        """The whole content. Raises NotFound or DataLoss."""
        return b"".join(self.read(digest))

    def read(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """The content from `offset` on, in chunks of at most 1 MiB. All of the file is checked first."""
        try:
            file = self._place(digest).open("rb")
        except FileNotFoundError:
            raise NotFound(f"artifact {digest} is not there any more") from None
        with file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise DataLoss(f"artifact {digest} is damaged on the disk")
            file.seek(offset)
            while chunk := file.read(CHUNK):
                yield chunk

    def collect(self, referenced: Callable[[Sequence[str]], set[str]], age: float = 86_400.0) -> int:
        """Removes old files that nothing refers to.

        Args:
            referenced: Which of some digests are still needed.
            age: Age in seconds from which on a file may be removed.

        Returns:
            How many files were removed.
        """
        before = time.time() - age
        old = [path for path in self._folder.glob("??/*") if _DIGEST.fullmatch(path.name) and _older(path, before)]
        kept = referenced([path.name for path in old])
        gone = [path for path in old if path.name not in kept]
        gone += [path for path in self._incoming.iterdir() if _older(path, before)]
        gone = [path for path in gone if _older(path, before)]  # somebody may have asked for it meanwhile
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def discard(self, digest: str) -> None:
        """Removes a file that nothing refers to any longer."""
        self._place(digest).unlink(missing_ok=True)

    def _place(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise NotFound(f"artifact {digest!r:.80} is no digest")
        return self._folder / digest[:2] / digest


def _older(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        return False


@contextmanager
def _disk_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise ResourceExhausted(f"the disk of the artifacts is full ({error.strerror})") from error
        raise
