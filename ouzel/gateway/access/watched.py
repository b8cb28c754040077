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
        content = self._bytes()
        self._seen: list[bytes] | str = content  # or why they could not be read
        self.value = read(content)
        self.broken = False  # whether the files say something that is not in force

    def refresh(self) -> None:
        """Reads the files if they have changed. The log says what came of it, once."""
        try:
            found: list[bytes] | str = self._bytes()
        except InvalidArgument as error:
            found = str(error)
        if found == self._seen:
            return
        self._seen = found
        try:
            if isinstance(found, str):
                raise InvalidArgument(found)
            self.value = self._read(found)
        except (OuzelError, ValueError) as error:
            self.broken = True
            _log.error("%s: the change is not in force: %s", self._what, error)
            return
        self.broken = False
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
