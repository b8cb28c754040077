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
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import IO, Any

from ouzel.bucket_objects import Asked, Object
from ouzel.errors import DataLoss, InvalidArgument, NotFound
from ouzel.worker.artifacts.cache import Cache
from ouzel.worker.artifacts.folder import CHUNK, checked
from ouzel.worker.artifacts.incoming import Incoming, spooled
from ouzel.worker.artifacts.protocol import DAY, Link

_log = logging.getLogger(__name__)
_PART = 8 * 2**20  # bytes of one request; larger files are uploaded in parts
_MOST_PARTS = 9000  # S3 takes 10,000
_FEW = 20  # files that are asked for one by one; for more, all are listed


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
        self._asked = Asked(url, field)
        self._cache = Cache(cache)

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

    def hold(self, digests: Sequence[str]) -> Mapping[str, int]:
        """See `Artifacts`. The bucket copies what is not young anyway."""
        wanted = {checked(digest) for digest in digests}
        listed = self._asked.listed(None) if len(wanted) > _FEW else chain(*map(self._objects, wanted))
        newest = {digest: each for digest, each in _newest(listed).items() if digest in wanted}
        sizes = {}
        for digest, each in newest.items():
            try:
                if time.time() - each.modified > DAY / 2:
                    self._asked.copy(each.key, _new_key(digest))
                sizes[digest] = each.size
            except FileNotFoundError:  # removed just now
                continue
        return sizes

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
        return Link(self._asked.sign(objects[0].key, seconds), expires)

    def collect(self, referenced: Callable[[Sequence[str]], set[str]], age: float = DAY) -> int:
        """See `Artifacts`. Of a file that is needed, one object stays."""
        self._cache.clean()
        before = time.time() - age
        by_digest: dict[str, list[Object]] = defaultdict(list)
        for each in self._asked.listed(None):
            if (digest := _digest_of(each.key)) is not None:
                by_digest[digest].append(each)
        newest = {digest: max(objects, key=_by_age) for digest, objects in by_digest.items()}
        old = [(digest, each) for digest, objects in by_digest.items() for each in objects if each.modified < before]
        kept = referenced(sorted({digest for digest, _ in old}))
        gone = [(digest, each) for digest, each in old if digest not in kept or each != newest[digest]]
        self._asked.remove([each.key for _, each in gone])
        removed = Counter(digest for digest, _ in gone)
        return sum(count == len(by_digest[digest]) for digest, count in removed.items())

    def discard(self, digest: str) -> None:
        """See `Artifacts`."""
        self._cache.discard(digest)
        self._asked.remove([each.key for each in self._objects(checked(digest))])

    def total(self) -> int:
        """See `Artifacts`."""
        return sum(each.size for each in _newest(self._asked.listed(None)).values())

    def check(self) -> None:
        """See `Artifacts`."""
        self._asked.check()

    def _upload(self, source: Any, size: int, digest: str) -> None:
        part = max(_PART, -(-size // _MOST_PARTS))
        self._asked.put(_new_key(digest), source, part if size > part else 0)

    def _fetch(self, digest: str, incoming: Incoming) -> None:
        """Writes the content of the first object that is as it should be, the newest one first."""
        objects = self._objects(digest)
        for each in objects:
            try:
                for start in range(0, each.size, _PART):
                    incoming.write(self._asked.part(each.key, start, min(start + _PART, each.size)))
                incoming.keep(digest)
                return
            except FileNotFoundError:  # removed just now
                _log.warning("%s went away while it was read", each.key)
            except InvalidArgument:
                _log.error("%s/%s is damaged", self._asked.url, each.key)
            incoming.restart()
        if self._objects(digest):
            raise DataLoss(f"artifact {digest} is damaged in the bucket")
        raise NotFound(f"artifact {digest} is not there any more")

    def _objects(self, digest: str) -> list[Object]:
        """Those of one content, the newest first."""
        return sorted(self._asked.listed(f"{digest[:2]}/{digest}"), key=_by_age, reverse=True)


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


def _newest(objects: Iterable[Object]) -> dict[str, Object]:
    """The newest object of each digest."""
    newest: dict[str, Object] = {}
    for each in objects:
        if (digest := _digest_of(each.key)) is not None:
            newest[digest] = max(each, newest.get(digest, each), key=_by_age)
    return newest


def _by_age(each: Object) -> tuple[float, str]:
    return each.modified, each.key
