"""Whether a process on another node sees the folders that the worker sees, and not others of the same name.

A job that wrote its results into a folder of its own node would succeed, and nobody could read them. So the worker puts
a mark into each folder, and a job starts only where it finds the same marks.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from ouzel.errors import FailedPrecondition

_MARK = ".ouzel-shared"


def mark(folders: Iterable[Path]) -> dict[str, str]:
    """The marks of some folders; one that has none gets one.

    Args:
        folders: They are made if they are missing.

    Returns:
        The mark by the folder's path.

    Raises:
        FailedPrecondition: A folder cannot be written to.
    """
    return {str(folder): _mark(folder) for folder in folders}


def _mark(folder: Path) -> str:
    file = folder / _MARK
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = folder / f"{_MARK}.{secrets.token_hex(4)}"
        new.write_text(secrets.token_hex(16), encoding="ascii")
        try:
            file.hardlink_to(new)  # whole or not at all, and the first of several workers wins
        except FileExistsError:
            pass
        finally:
            new.unlink()
        return file.read_text(encoding="ascii")
    except OSError as error:
        raise FailedPrecondition(f"{folder} cannot be marked as shared with the nodes ({error.strerror})") from error


def check(marks: Mapping[str, str]) -> None:
    """Checks that this process sees the same folders.

    Args:
        marks: What `mark` gave, elsewhere.

    Raises:
        FailedPrecondition: It names a folder that is missing here, or is another one.
    """
    for folder, expected in marks.items():
        try:
            seen = (Path(folder) / _MARK).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            raise FailedPrecondition(f"{folder} of the worker is not seen on this node") from None
        if seen != expected:
            raise FailedPrecondition(f"{folder} on this node is not the folder that the worker sees")
