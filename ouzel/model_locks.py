"""Who may change the files of a model store, and the words for what the file system says."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ouzel.durable_files import FULL
from ouzel.errors import FailedPrecondition, OuzelError, ResourceExhausted


def locked(path: Path) -> IO[bytes]:
    """The file, locked. Whoever had it before may have removed it: then the one that is there now counts."""
    while True:
        lock = path.open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        lock.close()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Errors of the file system become ResourceExhausted (a full disk) or FailedPrecondition (all others)."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OuzelError):
            raise
        reason = error.strerror or type(error).__name__
        if error.errno in FULL:
            raise ResourceExhausted(f"the disk of the model store {folder} is full ({reason})") from error
        raise FailedPrecondition(f"the model store {folder} cannot be written: {reason}") from error
