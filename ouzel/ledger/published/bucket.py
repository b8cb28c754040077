"""The published files of a log in a bucket that speaks S3.

Files are created only where there are none, and the checkpoint replaces only the one that was read (`If-None-Match`
and `If-Match`): of two publishers, one is refused, without any lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ouzel.buckets import Prefix
from ouzel.errors import DataLoss
from ouzel.ledger.published.storage import Conflict
from ouzel.ledger.tlog.tiles import CHECKPOINT


class Bucket:
    """A prefix of a bucket.

    Args:
        url: "s3://BUCKET/PREFIX", see `ouzel.buckets.Prefix`.

    Raises:
        InvalidArgument: It names no bucket, or the package obstore is missing.
    """

    def __init__(self, url: str) -> None:
        self._prefix = Prefix(url, "tiles")
        self._url, self._s3, self._store = self._prefix.url, self._prefix.api, self._prefix.store

    def __str__(self) -> str:
        return self._url

    def read(self, path: str) -> bytes | None:
        """See `Storage`."""
        found = self._get(path)
        return None if found is None else found[0]

    def paths(self) -> list[str] | None:
        """See `Storage`."""
        with self._prefix.translated(""):
            return [str(each["path"]) for group in self._s3.list(self._store) for each in group]

    def create(self, path: str, content: bytes) -> None:
        """See `Storage`."""
        from obstore.exceptions import AlreadyExistsError

        try:
            with self._prefix.translated(path):
                self._s3.put(self._store, path, content, mode="create")
            return
        except AlreadyExistsError:
            pass
        if self.read(path) != content:
            raise DataLoss(f"{self._url}/{path} is there with other content")

    def swap(self, old: bytes | None, new: bytes) -> None:
        """See `Storage`."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        known = self._get(CHECKPOINT)
        if (None if known is None else known[0]) != old:
            raise Conflict(f"{self._url}/{CHECKPOINT} has changed meanwhile")
        mode: Any = "create" if known is None else {"e_tag": known[1]}
        try:
            with self._prefix.translated(CHECKPOINT):
                self._s3.put(self._store, CHECKPOINT, new, mode=mode)
        except (AlreadyExistsError, PreconditionError) as error:
            raise Conflict(f"{self._url}/{CHECKPOINT} has changed meanwhile") from error

    def delete(self, path: str) -> None:
        """See `Storage`."""
        with self._prefix.translated(path):
            within = [str(each["path"]) for group in self._s3.list(self._store, path) for each in group]
            for each in within or [path]:
                self._s3.delete(self._store, each)

    @contextmanager
    def locked(self, deadline: float) -> Iterator[None]:
        """See `Storage`. There is no lock to take."""
        yield

    def _get(self, path: str) -> tuple[bytes, str | None] | None:
        try:
            with self._prefix.translated(path):
                result = self._s3.get(self._store, path)
                return bytes(result.bytes()), result.meta["e_tag"]
        except FileNotFoundError:
            return None
