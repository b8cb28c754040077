"""Files by their digest in a bucket that speaks S3.

Each time that a file is stored it becomes an object of its own, DIGEST[:2]/DIGEST/TIME-RANDOM, and objects never
change. So who removes an old object cannot hit a new one of the same content, without any lock; and a store that
speaks S3 shows an object when all of it has arrived, and not before, however many parts it came in.

What is read is fetched into a cache on this machine and hashed there before any byte of it is given out.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from ouzel.buckets import Prefix
from ouzel.errors import DataLoss, InvalidArgument, NotFound, Unavailable
from ouzel.worker.artifacts.cache import Cache
from ouzel.worker.artifacts.folder import CHUNK, checked
from ouzel.worker.artifacts.incoming import Incoming, spooled
from ouzel.worker.artifacts.protocol import DAY, Link, StorageAway

_log = logging.getLogger(__name__)
_PART = 8 * 2**20  # bytes of one request; larger files are uploaded in parts
_MOST_PARTS = 9000  # S3 takes 10,000
_AT_ONCE = 4  # parts
_RETRIES = 4
_MARK = "ouzel"  # the object that is written to see whether the bucket can be written
_GONE_AT_ONCE = 1000  # objects that one request removes at most


@dataclass(frozen=True)
class _Object:
    key: str
    size: int
    modified: float


class BucketArtifacts:
    """Files by the SHA-256 of their content, see `Artifacts`.

    Args:
        url: "s3://BUCKET/PREFIX", see `ouzel.buckets.Prefix`. All workers of a store share it, and nobody else uses it.
        cache: Folder on this machine for files that were read.
        field: Of the option that names the URL, for messages.

    Raises:
        InvalidArgument: The URL names no bucket, or the package obstore is missing.
    """

    def __init__(self, url: str, cache: Path, field: str = "artifacts") -> None:
        self._prefix = Prefix(url, field, retries=_RETRIES)
        self._cache, self._field = Cache(cache), field

    def put(self, content: bytes | Iterable[bytes]) -> tuple[str, int]:
        """See `Artifacts`."""
        if isinstance(content, bytes):
            digest = hashlib.sha256(content).hexdigest()
            self._upload(content, len(content), digest)
            return digest, len(content)
        with self.incoming() as incoming:
            for chunk in content:
                incoming.write(chunk)
            return incoming.keep()

    def incoming(self) -> AbstractContextManager[Incoming]:
        """See `Artifacts`. The file lies on this machine until it is complete: its digest is its name."""

        def keep(file: IO[bytes], digest: str) -> None:
            size = file.tell()
            file.seek(0)
            self._upload(file, size, digest)

        return spooled(self._cache.spool, keep)

    def size(self, digest: str) -> int | None:
        """See `Artifacts`."""
        try:
            objects = self._objects(checked(digest))
        except NotFound:
            return None
        return objects[0].size if objects else None

    def renew(self, digest: str) -> bool:
        """See `Artifacts`. The bucket copies the object, if it is not young anyway."""
        objects = self._objects(checked(digest))
        if not objects:
            return False
        if time.time() - objects[0].modified < DAY / 2:
            return True
        try:
            with self._asked(digest):
                self._prefix.api.copy(self._prefix.store, objects[0].key, _new_key(digest))
        except FileNotFoundError:  # removed just now
            return False
        return True

    def get(self, digest: str) -> bytes:
        """See `Artifacts`."""
        return b"".join(self.read(digest))

    def read(self, digest: str, offset: int = 0) -> Iterator[bytes]:
        """See `Artifacts`."""
        checked(digest)
        with self._cache.open(digest, lambda incoming: self._fetch(digest, incoming)) as file:
            file.seek(offset)
            while chunk := file.read(CHUNK):
                yield chunk

    def link(self, digest: str, seconds: float) -> Link | None:
        """See `Artifacts`. What comes from there is unchecked: who follows it has the digest."""
        objects = self._objects(checked(digest))
        if not objects:
            return None
        expires = time.time() + seconds
        with self._asked(digest):
            url = self._prefix.api.sign(self._prefix.store, "GET", objects[0].key, timedelta(seconds=seconds))
        return Link(url, expires)

    def collect(self, referenced: Callable[[Sequence[str]], set[str]], age: float = DAY) -> int:
        """See `Artifacts`. Of a file that is needed, one object stays."""
        self._cache.clean()
        before = time.time() - age
        by_digest: dict[str, list[_Object]] = defaultdict(list)
        for each in self._listed(None):
            if (digest := _digest_of(each.key)) is not None:
                by_digest[digest].append(each)
        newest = {digest: max(objects, key=_by_age) for digest, objects in by_digest.items()}
        old = [(digest, each) for digest, objects in by_digest.items() for each in objects if each.modified < before]
        kept = referenced(sorted({digest for digest, _ in old}))
        gone = [each.key for digest, each in old if digest not in kept or each != newest[digest]]
        self._remove(gone)
        return len(gone)

    def discard(self, digest: str) -> None:
        """See `Artifacts`."""
        self._cache.discard(digest)
        self._remove([each.key for each in self._objects(checked(digest))])

    def total(self) -> int:
        """See `Artifacts`."""
        newest: dict[str, _Object] = {}
        for each in self._listed(None):
            if (digest := _digest_of(each.key)) is not None:
                newest[digest] = max(each, newest.get(digest, each), key=_by_age)
        return sum(each.size for each in newest.values())

    def check(self) -> None:
        """See `Artifacts`. Raises Unavailable with all that is known: only the operator reads it."""
        with self._prefix.translated(_MARK):
            self._prefix.api.put(self._prefix.store, _MARK, self._field.encode())

    def _upload(self, source: Any, size: int, digest: str) -> None:
        part = max(_PART, -(-size // _MOST_PARTS))
        more = {"use_multipart": size > part, "chunk_size": part, "max_concurrency": _AT_ONCE}
        with self._asked(digest):
            self._prefix.api.put(self._prefix.store, _new_key(digest), source, **more)

    def _fetch(self, digest: str, incoming: Incoming) -> None:
        """Writes the content of the first object that is as it should be, the newest one first."""
        objects = self._objects(digest)
        for each in objects:
            try:
                for start in range(0, each.size, _PART):
                    with self._asked(digest):
                        part = self._prefix.api.get_range(
                            self._prefix.store, each.key, start=start, end=min(start + _PART, each.size)
                        )
                    incoming.write(memoryview(part))
                incoming.keep(digest)
                return
            except FileNotFoundError:  # removed just now
                _log.warning("%s went away while it was read", each.key)
            except InvalidArgument:
                _log.error("%s/%s is damaged", self._prefix.url, each.key)
            incoming.restart()
        if self._objects(digest):
            raise DataLoss(f"artifact {digest} is damaged in the bucket")
        raise NotFound(f"artifact {digest} is not there any more")

    def _objects(self, digest: str) -> list[_Object]:
        """Those of one content, the newest first."""
        return sorted(self._listed(f"{digest[:2]}/{digest}"), key=_by_age, reverse=True)

    def _listed(self, folder: str | None) -> Iterator[_Object]:
        with self._asked(folder or "all"):
            for group in self._prefix.api.list(self._prefix.store, folder, chunk_size=_GONE_AT_ONCE):
                for each in group:
                    yield _Object(str(each["path"]), each["size"], each["last_modified"].timestamp())

    def _remove(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _GONE_AT_ONCE):
            with self._asked("remove"):
                try:
                    self._prefix.api.delete(self._prefix.store, list(keys[start : start + _GONE_AT_ONCE]))
                except FileNotFoundError:  # another worker was faster; what is left goes next time
                    continue

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Callers hear that it does not answer; where it is, and what it said, is for the log."""
        try:
            with self._prefix.translated(what):
                yield
        except Unavailable as error:
            _log.warning("%s", error)
            raise StorageAway(f"the storage of {self._field} does not answer; try again later") from error


def _new_key(digest: str) -> str:
    return f"{digest[:2]}/{digest}/{time.time_ns():016x}-{secrets.token_hex(6)}"


def _digest_of(key: str) -> str | None:
    """None for what is not one of our objects."""
    parts = key.split("/")
    if len(parts) != 3 or not parts[1].startswith(parts[0]):
        return None
    try:
        return checked(parts[1])
    except NotFound:
        return None


def _by_age(each: _Object) -> tuple[float, str]:
    return each.modified, each.key
