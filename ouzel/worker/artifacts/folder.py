"""Files by their digest in a folder.

A file is written beside its place, synced, and moved there: under its name it is whole or not there at all. It is
hashed again whenever it is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from ouzel.durable_files import sync_folder
from ouzel.errors import DataLoss, NotFound
from ouzel.worker.artifacts.incoming import Incoming, spooled
from ouzel.worker.artifacts.protocol import DAY, Link

CHUNK = 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class FolderArtifacts:
    """Files by the SHA-256 of their content, see `Artifacts`.

    Args:
        folder: Is made if it is missing. All workers of a store share it.
        durable: Whether files are synced; those that can be had again need not be.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self._folder, self._durable = folder, durable
        self._incoming = folder / "incoming"
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, content: bytes | Iterable[bytes]) -> tuple[str, int]:
        """See `Artifacts`."""
        with self.incoming() as incoming:
            for chunk in (content,) if isinstance(content, bytes) else content:
                incoming.write(chunk)
            return incoming.keep()

    def incoming(self) -> AbstractContextManager[Incoming]:
        """See `Artifacts`."""
        return spooled(self._incoming, self._keep)

    def size(self, digest: str) -> int | None:
        """See `Artifacts`."""
        try:
            return self._place(digest).stat().st_size
        except (FileNotFoundError, NotFound):
            return None

    def hold(self, digests: Sequence[str]) -> Mapping[str, int]:
        """See `Artifacts`."""
        sizes = {}
        for digest in digests:
            try:
                os.utime(self._place(digest))
                sizes[digest] = self._place(digest).stat().st_size
            except FileNotFoundError:
                continue
        return sizes

    def get(self, digest: str) -> bytes:
        """See `Artifacts`."""
        return b"".join(self.read(digest))

    def read(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """See `Artifacts`."""
        with self.open(digest) as file:
            file.seek(offset)
            while chunk := file.read(CHUNK):
                yield chunk

    def open(self, digest: str) -> IO[bytes]:
        """A file that has been checked, for reading. Raises NotFound or DataLoss."""
        try:
            file = self._place(digest).open("rb")
        except FileNotFoundError:
            raise NotFound(f"artifact {digest} is not there any more") from None
        try:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise DataLoss(f"artifact {digest} is damaged on the disk")
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def link(self, digest: str, seconds: float) -> Link | None:
        """See `Artifacts`: a folder has no links."""
        return None

    def collect(self, referenced: Callable[[Sequence[str]], set[str]], age: float = DAY) -> int:
        """See `Artifacts`."""
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
        """See `Artifacts`."""
        self._place(digest).unlink(missing_ok=True)

    def total(self) -> int:
        """See `Artifacts`."""
        return sum(size for _, _, size in self.files())

    def files(self) -> Iterator[tuple[float, Path, int]]:
        """All files: when they were written or renewed, where they are, and their size in bytes."""
        for path in self._folder.glob("??/*"):
            try:
                status = path.stat()
            except FileNotFoundError:  # removed just now
                continue
            yield status.st_mtime, path, status.st_size

    def check(self) -> None:
        """See `Artifacts`: that its folder can be made is all there is to check."""

    def _keep(self, file: IO[bytes], digest: str) -> None:
        if self._durable:
            os.fsync(file.fileno())
        place = self._place(digest)
        place.parent.mkdir(exist_ok=True)
        Path(file.name).replace(place)
        if self._durable:
            for folder in (place.parent, place.parent.parent):
                sync_folder(folder)

    def _place(self, digest: str) -> Path:
        return self._folder / checked(digest)[:2] / digest


def checked(digest: str) -> str:
    """The digest, if it is one. Raises NotFound."""
    if not _DIGEST.fullmatch(digest):
        raise NotFound(f"artifact {digest!r:.80} is no digest")
    return digest


def _older(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        return False
