"""Files for one user alone: secrets are read only if nobody else can read them, as ssh does; logs are made so."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ouzel.errors import FailedPrecondition, InvalidArgument

_MOST_BYTES = 2**20
_OTHERS, _GROUP = 0o077, 0o037  # bits of a mode that others must not have


def check(path: Path, field: str = "") -> None:
    """Refuses a file that others may use.

    Its own user's file is for that user alone. A file that somebody else owns, as secrets that are mounted into a
    container, is read by its group at most: this process may be in it. Windows has no such modes; nothing is refused
    there.

    Args:
        path: Of the file.
        field: What it was given as, for the error.

    Raises:
        FailedPrecondition: Others may use it.
        InvalidArgument: There is no such file.
    """
    try:
        _check(path.stat(), path, field)
    except OSError as error:
        raise _unreadable(path, field, error) from None


def read(path: Path, field: str = "") -> str:
    """The content of a file that `check` lets pass, which is that which was looked at.

    Args:
        path: Of the file, of UTF-8.
        field: What it was given as, for errors.

    Raises:
        FailedPrecondition: Others may use it.
        InvalidArgument: It cannot be read, is no text, or has more than 1 MiB.
        FileNotFoundError: There is no such file.
    """
    try:
        with path.open("rb") as file:
            _check(os.fstat(file.fileno()), path, field)
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, field, error) from None
    if len(content) > _MOST_BYTES:
        raise InvalidArgument(f"{_named(field)}{path} has more than {_MOST_BYTES} bytes", field=field)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"{_named(field)}{path} is not UTF-8", field=field) from None


def _check(found: os.stat_result, path: Path, field: str) -> None:
    if os.name != "posix" or not stat.S_ISREG(found.st_mode):  # a pipe or a device has other ways of protection
        return
    mode = stat.S_IMODE(found.st_mode)
    if mode & (_OTHERS if found.st_uid == os.geteuid() else _GROUP):
        raise FailedPrecondition(
            f"{_named(field)}others may use {path} (mode {mode:04o}), which holds a secret; run chmod 600 {path}",
            field=field,
        )


def _unreadable(path: Path, field: str, error: OSError) -> InvalidArgument:
    return InvalidArgument(f"{_named(field)}{path} cannot be read ({error.strerror})", field=field)


def _named(field: str) -> str:
    return f"{field}: " if field else ""


def open_log(path: Path, *, append: bool = False) -> BinaryIO:
    """Opens a log for writing: for this user alone, also if it was made with another mode before.

    Args:
        path: Of the file.
        append: Whether what is there stays.

    Raises:
        OSError: It cannot be opened.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC), 0o600)
    opened = os.fdopen(file, "ab" if append else "wb")
    with contextlib.suppress(OSError, AttributeError):  # it is somebody else's; or not on this system
        os.fchmod(file, 0o600)
    return opened
