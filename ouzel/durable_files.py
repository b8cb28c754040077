"""Files that are there whole or not at all, and stay there when the machine goes down."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # what a full disk, or a used-up quota, says


@contextmanager
def written(path: Path, *, replace: bool = True, mode: int = 0o644) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place at the end, durably, and vanishes if something went wrong.

    Raises FileExistsError if it may not replace a file that is there.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            _place(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _place(temporary: Path, path: Path) -> None:
    """Give the file its name unless there is one of that name."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if path.exists():  # no hard links here: the caller's lock has to do
            raise FileExistsError(errno.EEXIST, "exists", str(path)) from error
        temporary.replace(path)


def sync_folder(folder: Path) -> None:
    """Make names that came and went durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some file systems cannot
            os.fsync(handle)
    finally:
        os.close(handle)
