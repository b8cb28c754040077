"""Data sets in a bucket that speaks S3: OWNER/files/... and OWNER/manifests/NAME, each with its digest before it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ouzel.bucket_objects import Asked
from ouzel.errors import DataLoss
from ouzel.worker.artifacts.bucket import BucketArtifacts
from ouzel.worker.datasets.storage import FIELD

_DIGEST = hashlib.sha256().digest_size
_AT_ONCE = 8  # records


class BucketStorage:
    """See `Storage`.

    Args:
        url: "s3://BUCKET/PREFIX", see `ouzel.buckets.Prefix`.
        cache: Folder on this machine for files that were read.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self._asked = Asked(url, FIELD)
        self._cache = cache
        self._files: dict[str, BucketArtifacts] = {}
        self._known: dict[str, tuple[str, bytes]] = {}  # records by key: the object's tag, and its content
        self._lock = threading.Lock()

    def files(self, owner: str) -> BucketArtifacts:
        """See `Storage`."""
        with self._lock:
            if owner not in self._files:
                place, cache = self.files_place(owner)
                self._files[owner] = BucketArtifacts(place, Path(cache), FIELD)
            return self._files[owner]

    def files_place(self, owner: str) -> tuple[str, str]:
        """See `Storage`. Owners share no cache: what one has uploaded says nothing to another."""
        return f"{self._asked.url}/{owner}/files", str(self._cache / owner)

    def owners(self) -> list[str]:
        """See `Storage`."""
        return self._asked.folders()

    def read(self, owner: str, name: str) -> bytes | None:
        """See `Storage`."""
        key = _key(owner, name)
        stored = self._asked.get(key)
        return None if stored is None else _checked(key, stored)

    def all(self, owner: str, suffix: str) -> Mapping[str, bytes]:
        """See `Storage`. What was read before and has not changed is not read again."""
        tags = {each.key: each.tag for each in self._asked.listed(f"{owner}/manifests") if each.key.endswith(suffix)}
        with self._lock:
            known = {key: self._known[key] for key, tag in tags.items() if self._known.get(key, ("",))[0] == tag}
        new = [key for key in tags if key not in known]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for key, stored in zip(new, threads.map(self._asked.get, new), strict=True):
                if stored is not None:  # else removed just now
                    known[key] = (tags[key], _checked(key, stored))
        with self._lock:
            for key in [each for each in self._known if each.startswith(f"{owner}/") and each.endswith(suffix)]:
                del self._known[key]
            self._known |= known
        return {key.rpartition("/")[2]: content for key, (_, content) in known.items()}

    def write(self, owner: str, name: str, content: bytes) -> None:
        """See `Storage`."""
        self._asked.put(_key(owner, name), hashlib.sha256(content).digest() + content)

    def delete(self, owner: str, name: str) -> None:
        """See `Storage`."""
        self._asked.remove([_key(owner, name)])

    def total(self) -> int:
        """See `Storage`."""
        return sum(each.size for each in self._asked.listed(None))

    def check(self) -> None:
        """See `Storage`."""
        self._asked.check()


def _key(owner: str, name: str) -> str:
    # Owners are names that tokens.py has checked: no separators, and never "." or "..".
    return f"{owner}/manifests/{name}"


def _checked(key: str, stored: bytes) -> bytes:
    content = stored[_DIGEST:]
    if hashlib.sha256(content).digest() != stored[:_DIGEST]:
        raise DataLoss(f"dataset: the record {key.rpartition('/')[2]} is damaged in the bucket")
    return content
