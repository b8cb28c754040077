"""What files say, read again when they change; a broken change leaves in force what was there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from ouzel.errors import InvalidArgument, OuzelError

T = TypeVar("T")
_MOST_BYTES = 4 * 2**20  # of a file
_log = logging.getLogger(__name__)


class Watched(Generic[T]):
    """A value that files hold. `refresh` compares their bytes, so that no change within a tick of a clock is missed.

    Args:
        paths: The files.
        read: Makes the value of their bytes; raises OuzelError or ValueError if it cannot.
        what: The files in words, for the log.

    Raises:
        InvalidArgument: They cannot be read now.
        OuzelError: Of `read`.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[Sequence[bytes]], T], what: str) -> None:
        self._paths, self._read, self._what = paths, read, what
        self._in_force = self._bytes()
        self.value = read(self._in_force)
        self.problem = ""  # why the files that are there are not in force; "" if they are

    def refresh(self) -> None:
        """Reads the files if they are not those in force. The log says what came of it, once."""
        try:
            found = self._bytes()
            if found == self._in_force:
                self.problem = ""
                return
            value = self._read(found)
        except (OuzelError, ValueError, OSError) as error:
            if str(error) != self.problem:
                self.problem = str(error)
                _log.error("%s: the change is not in force: %s", self._what, error)
            return
        self._in_force, self.value, self.problem = found, value, ""
        _log.info("%s: the change is in force", self._what)

    def _bytes(self) -> list[bytes]:
        return [_content(path) for path in self._paths]


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InvalidArgument(f"{path}: cannot be read ({error.strerror})") from None
    if len(raw) > _MOST_BYTES:
        raise InvalidArgument(f"{path}: has more than {_MOST_BYTES} bytes")
    return raw
