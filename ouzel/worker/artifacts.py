"""Files that jobs leave behind, by the SHA-256 of their content.

A file is written beside its place, synced, and moved there: under its name it is whole or not there at all. It is
hashed again whenever it is read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ouzel.errors import DataLoss, NotFound, ResourceExhausted

CHUNK = 2**20
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Artifacts:
    """The files in `folder`, which is made. Shared by all workers of a store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, content: bytes | Iterable[bytes]) -> tuple[str, int]:
        """Store it durably; returns digest and size. Raises ResourceExhausted if the disk is full."""
        chunks = (content,) if isinstance(content, bytes) else content
        sha256, size = hashlib.sha256(), 0
        with _disk_full(), tempfile.NamedTemporaryFile(dir=self._incoming, delete=False) as file:
            try:
                for chunk in chunks:
                    file.write(chunk)
                    sha256.update(chunk)
                    size += len(chunk)
                file.flush()
                os.fsync(file.fileno())
                place = self._place(sha256.hexdigest())
                place.parent.mkdir(exist_ok=True)
                Path(file.name).replace(place)
                for folder in (place.parent, self._folder):
                    _sync(folder)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        return sha256.hexdigest(), size

    def get(self, digest: str) -> bytes:
        """The whole content. Raises NotFound or DataLoss."""
        return b"".join(self.read(digest))

    def read(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """The content from `offset` on, in chunks of at most 1 MiB, once all of it was found to be whole."""
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
        """Remove what nothing refers to and is older than `age` seconds; returns how many files."""
        before = time.time() - age
        old = [path for path in self._folder.glob("??/*") if _DIGEST.fullmatch(path.name) and _older(path, before)]
        kept = referenced([path.name for path in old])
        gone = [path for path in old if path.name not in kept]
        gone += [path for path in self._incoming.iterdir() if _older(path, before)]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _place(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise NotFound(f"artifact {digest!r:.80} is no digest")
        return self._folder / digest[:2] / digest


def _older(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        return False


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _disk_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ResourceExhausted(f"the disk of the artifacts is full ({error.strerror})") from error
        raise
