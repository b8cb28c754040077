"""A bucket as callers may hear of it: that it does not answer, and not where it is or what it said."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ouzel.buckets import Prefix, StorageAway, StorageRefused
from ouzel.errors import Unavailable

_log = logging.getLogger(__name__)
_RETRIES = 4
_AT_ONCE = 4  # parts of one file
_LISTED = 1000  # objects of one answer, and of one request that removes them
_MARK = "ouzel"  # the object that is written to see whether the bucket can be written


@dataclass(frozen=True)
class Object:
    """What a list says of an object.

    Attributes:
        key: Its path below the prefix.
        size: In bytes.
        modified: When it was stored, in seconds since the epoch, by the bucket's clock.
        tag: Changes with its content.
    """

    key: str
    size: int
    modified: float
    tag: str


class Asked:
    """A prefix of a bucket. All methods but `check` raise StorageAway while it does not answer, or StorageRefused.

    Args:
        url: "s3://BUCKET/PREFIX", see `ouzel.buckets.Prefix`.
        field: Of the option that names it, for messages.

    Attributes:
        url: Without a slash at its end.
    """

    def __init__(self, url: str, field: str) -> None:
        self._prefix, self._field = Prefix(url, field, retries=_RETRIES), field
        self.api, self._store = self._prefix.api, self._prefix.store
        self.url = self._prefix.url

    def put(self, key: str, source: Any, part: int = 0) -> None:
        """Stores an object: all of it is there then, and nothing before.

        Args:
            key: Its path.
            source: Bytes, or a file that is open.
            part: Bytes of one request, where it is to be uploaded in parts; 0 sends all at once.
        """
        more = {"use_multipart": True, "chunk_size": part, "max_concurrency": _AT_ONCE} if part else {}
        with self._words(key):
            self.api.put(self._store, key, source, **more)

    def get(self, key: str) -> bytes | None:
        """An object; None if there is none."""
        try:
            with self._words(key):
                return bytes(self.api.get(self._store, key).bytes())
        except FileNotFoundError:
            return None

    def tagged(self, key: str) -> tuple[bytes, str] | None:
        """An object and its tag; None if there is none."""
        try:
            with self._words(key):
                found = self.api.get(self._store, key)
                return bytes(found.bytes()), str(found.meta["e_tag"])
        except FileNotFoundError:
            return None

    def swap(self, key: str, tag: str | None, content: bytes) -> str | None:
        """Stores an object, if it is still as it was read.

        Args:
            key: Its path.
            tag: As `tagged` gave it; None if there was no object.
            content: The new one.

        Returns:
            Its new tag; None if somebody else was faster.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if tag is None else {"e_tag": tag}
        try:
            with self._words(key):
                return str(self.api.put(self._store, key, content, mode=mode)["e_tag"])
        except (AlreadyExistsError, PreconditionError):
            return None

    def size(self, key: str) -> int:
        """Of an object, in bytes. Raises FileNotFoundError."""
        with self._words(key):
            return int(self.api.head(self._store, key)["size"])

    def part(self, key: str, start: int, end: int) -> memoryview:
        """Some bytes of an object. Raises FileNotFoundError."""
        with self._words(key):
            return memoryview(self.api.get_range(self._store, key, start=start, end=end))

    def copy(self, key: str, other: str) -> None:
        """Copies an object. Raises FileNotFoundError."""
        with self._words(key):
            self.api.copy(self._store, key, other)

    def sign(self, key: str, seconds: float) -> str:
        """A URL where a GET has an object for some seconds."""
        with self._words(key):
            return str(self.api.sign(self._store, "GET", key, timedelta(seconds=seconds)))

    def listed(self, folder: str | None) -> Iterator[Object]:
        """The objects below a path; None is the prefix itself."""
        with self._words(folder or "all"):
            for group in self.api.list(self._store, folder, chunk_size=_LISTED):
                for each in group:
                    tag = str(each["e_tag"] or each["last_modified"])
                    yield Object(str(each["path"]), each["size"], each["last_modified"].timestamp(), tag)

    def folders(self) -> list[str]:
        """The first parts of the paths of all objects below some folder."""
        with self._words("all"):
            return [
                str(each).rpartition("/")[2] for each in self.api.list_with_delimiter(self._store)["common_prefixes"]
            ]

    def remove(self, keys: Sequence[str]) -> None:
        """Removes objects; those that are not there are no error."""
        for start in range(0, len(keys), _LISTED):
            # Where another worker was faster, what is left goes next time.
            with suppress(FileNotFoundError), self._words("remove"):
                self.api.delete(self._store, list(keys[start : start + _LISTED]))

    def check(self) -> None:
        """Writes a small object. Raises Unavailable or StorageRefused with all that is known: the operator reads it."""
        with self._prefix.translated(_MARK):
            self.api.put(self._store, _MARK, self._field.encode())

    @contextmanager
    def _words(self, what: str) -> Iterator[None]:
        try:
            with self._prefix.translated(what):
                yield
        except StorageRefused as error:
            _log.error("%s", error)
            raise StorageRefused(
                f"the storage of {self._field} cannot be used; its operator can see why", why=error.why
            ) from error
        except Unavailable as error:
            _log.warning("%s", error)
            raise StorageAway(f"the storage of {self._field} does not answer; try again later") from error
