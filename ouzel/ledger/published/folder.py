"""The published files of a log in a folder: written beside, synced, renamed; under a lock of the kernel."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ouzel.durable_files import FULL, sync_folder, written
from ouzel.errors import DataLoss, DeadlineExceeded, ResourceExhausted, Unavailable
from ouzel.ledger.published.storage import Conflict
from ouzel.ledger.tlog.tiles import CHECKPOINT

_LOCK = ".lock"
_TURN = 0.005  # s between two tries to get the lock


class Folder:
    """A folder of this machine.

    Args:
        path: The folder. It is made with the first write.
    """

    def __init__(self, path: Path) -> None:
        self._root = path.absolute()

    def __str__(self) -> str:
        return str(self._root)

    def read(self, path: str) -> bytes | None:
        """See `Storage`."""
        try:
            return (self._root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unavailable(f"{self._root / path} cannot be read ({error})") from error

    def paths(self) -> list[str] | None:
        """See `Storage`. Files whose names begin with a dot are none of the log's."""
        found = []
        for folder, folders, names in os.walk(self._root):
            folders[:] = [each for each in folders if not each.startswith(".")]
            found += [str((Path(folder) / name).relative_to(self._root)) for name in names if not name.startswith(".")]
        return found

    def create(self, path: str, content: bytes) -> None:
        """See `Storage`."""
        known = self.read(path)
        if known is None:
            self._write(path, content)
        elif known != content:
            raise DataLoss(f"{self._root / path} is there with other content")

    def swap(self, old: bytes | None, new: bytes) -> None:
        """See `Storage`. The lock is held."""
        if self.read(CHECKPOINT) != old:
            raise Conflict(f"{self._root / CHECKPOINT} has changed meanwhile")
        self._write(CHECKPOINT, new)

    def delete(self, path: str) -> None:
        """See `Storage`."""
        target = self._root / path
        try:
            if target.is_dir():
                for each in target.iterdir():
                    each.unlink()
                target.rmdir()
            else:
                target.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"{target} cannot be removed ({error})") from error

    @contextmanager
    def locked(self, deadline: float) -> Iterator[None]:
        """See `Storage`. The lock ends with the process that holds it."""
        self._make(self._root)
        try:
            handle = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _meaning(self._root, error) from error
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise DeadlineExceeded(f"another process is publishing to {self._root}") from None
                    time.sleep(_TURN)
            yield
        finally:
            os.close(handle)

    def _write(self, path: str, content: bytes) -> None:
        target = self._root / path
        self._make(target.parent)
        try:
            with written(target) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            raise _meaning(target, error) from error

    def _make(self, folder: Path) -> None:
        try:
            if not folder.is_dir():
                if folder != self._root:
                    self._make(folder.parent)
                folder.mkdir(parents=True, exist_ok=True)
                sync_folder(folder.parent)
        except OSError as error:
            raise _meaning(folder, error) from error


def _meaning(path: Path, error: OSError) -> Exception:
    if error.errno in FULL:
        return ResourceExhausted(f"the disk of the ledger's files is full: {path} ({error.strerror})")
    return Unavailable(f"{path} cannot be written ({error})")
