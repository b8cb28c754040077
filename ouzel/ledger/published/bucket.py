"""The published files of a log in a bucket that speaks S3.

Files are created only where there are none, and the checkpoint replaces only the one that was read (`If-None-Match`
and `If-Match`): of two publishers, one is refused, without any lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ouzel.errors import DataLoss, InvalidArgument, Unavailable
from ouzel.ledger.published.storage import Conflict
from ouzel.ledger.tlog.tiles import CHECKPOINT

if TYPE_CHECKING:
    from obstore.store import S3Store


class Bucket:
    """A prefix of a bucket.

    Args:
        url: "s3://BUCKET/PREFIX". Keys, region and endpoint come from the variables AWS_ACCESS_KEY_ID,
            AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL, or from the machine's role.

    Raises:
        InvalidArgument: It names no bucket, or the package obstore is missing.
    """

    def __init__(self, url: str) -> None:
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError as error:
            raise InvalidArgument("tiles: s3:// needs the package obstore; install ouzel[s3]", field="tiles") from error
        bucket, _, prefix = url.removeprefix("s3://").strip("/").partition("/")
        if not bucket:
            raise InvalidArgument(f"tiles: {url[:80]!r} names no bucket", field="tiles")
        self._url = url.rstrip("/")
        self._s3 = obstore
        # Over plain HTTP only where the operator's endpoint says so.
        options: dict[str, Any] = {"client_options": {"allow_http": True, "timeout": "30s"}}
        self._store: S3Store = S3Store(bucket, prefix=prefix or None, **options)

    def __str__(self) -> str:
        return self._url

    def read(self, path: str) -> bytes | None:
        """See `Storage`."""
        found = self._get(path)
        return None if found is None else found[0]

    def paths(self) -> list[str] | None:
        """See `Storage`."""
        with self._translated(""):
            return [str(each["path"]) for group in self._s3.list(self._store) for each in group]

    def create(self, path: str, content: bytes) -> None:
        """See `Storage`."""
        from obstore.exceptions import AlreadyExistsError

        with self._translated(path):
            try:
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
        with self._translated(CHECKPOINT):
            try:
                self._s3.put(self._store, CHECKPOINT, new, mode=mode)
            except (AlreadyExistsError, PreconditionError) as error:
                raise Conflict(f"{self._url}/{CHECKPOINT} has changed meanwhile") from error

    def delete(self, path: str) -> None:
        """See `Storage`."""
        with self._translated(path):
            within = [str(each["path"]) for group in self._s3.list(self._store, path) for each in group]
            for each in within or [path]:
                self._s3.delete(self._store, each)

    @contextmanager
    def locked(self, deadline: float) -> Iterator[None]:
        """See `Storage`. There is no lock to take."""
        yield

    def _get(self, path: str) -> tuple[bytes, str | None] | None:
        with self._translated(path):
            try:
                result = self._s3.get(self._store, path)
                return bytes(result.bytes()), result.meta["e_tag"]
            except FileNotFoundError:
                return None

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except BaseError as error:
            cause = " ".join(str(error).split())[:300]
            raise Unavailable(f"{self._url}/{path} does not answer ({type(error).__name__}: {cause})") from error
