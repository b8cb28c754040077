"""A model store in a bucket that speaks S3.

    names/NAME.json                       the record of a model: each change is one conditional write of it
    archives/NAME/SHA256/TIME-RANDOM      an archive, which never changes
    agents/NODE.json                      what an agent serves
    identity                              tells this store from one that takes its place

An archive is uploaded first and named by the record afterwards, so that what the record names is there. Each upload
is an object of its own: who removes one cannot hit another one of the same content.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ouzel.bucket_objects import Asked
from ouzel.buckets import StorageAway
from ouzel.durable_files import FULL
from ouzel.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from ouzel.model_names import check_name
from ouzel.registry.identity import new_identity, read_identity
from ouzel.registry.record import ModelRecord, StoredVersion, parse
from ouzel.registry.registry import Told

_log = logging.getLogger(__name__)
_PART = 8 * 2**20  # bytes of one request; larger archives are uploaded in parts
_MOST_PARTS = 9000  # S3 takes 10,000
_TRIES = 50  # of a change that others are faster with
_OLD = 86_400.0  # s after which an archive that no record names is removed
_PROBE = "ouzel-conditions"
_IDENTITY = "identity"


class BucketRegistry:
    """See `Registry` and the module.

    Args:
        url: "s3://BUCKET/PREFIX", see `ouzel.buckets.Prefix`.

    Raises:
        InvalidArgument: The URL names no bucket, or the package obstore is missing.
    """

    def __init__(self, url: str) -> None:
        self._asked = Asked(url, "models")

    @property
    def where(self) -> str:
        """See `Registry`."""
        return self._asked.url

    def identity(self) -> str:
        """See `Registry`."""
        return read_identity(self._asked.get(_IDENTITY), f"{self.where}/{_IDENTITY}")

    def identify(self) -> str:
        """See `Registry`."""
        if not (known := self.identity()):
            self._asked.swap(_IDENTITY, None, new_identity())  # the first of several wins
            known = self.identity()
        return known

    def names(self) -> Mapping[str, str]:
        """See `Registry`."""
        found = {}
        for each in self._asked.listed("names"):
            name = each.key.removeprefix("names/").removesuffix(".json")
            if _named(name) and each.key == _key(name):
                found[name] = each.tag
        return found

    def record(self, name: str) -> ModelRecord | None:
        """See `Registry`."""
        found = self._asked.tagged(_key(name))
        record = None if found is None else parse(name, *found)
        return record if record is not None and record.versions else None

    def change(self, name: str, edit: Callable[[ModelRecord], ModelRecord]) -> tuple[ModelRecord, ModelRecord]:
        """Changes the record of a model in one step, whoever else changes it at the same time.

        Args:
            name: Of the model.
            edit: Makes the new record of the present one, which has no versions where there is no model. May be called
                several times, also with a record that it has made itself: an answer can get lost.

        Returns:
            The record before, and as it is now.

        Raises:
            OuzelError: What `edit` raises; then nothing is changed.
        """
        for attempt in range(_TRIES):
            found = self._asked.tagged(_key(name))
            before = ModelRecord(name) if found is None else parse(name, *found)
            after = edit(before)
            if after == before:
                return before, before
            tag = self._asked.swap(_key(name), None if found is None else found[1], after.to_json())
            if tag is not None:
                return before, ModelRecord(name, after.versions, after.chosen, after.wanted, tag)
            time.sleep(secrets.randbelow(20 * (attempt + 1)) / 1000)  # so that many do not stay in step
        raise StorageAway(f"the record of the model {name!r} is changed by others again and again; try again later")

    def upload(self, name: str, path: Path) -> tuple[str, str, int]:
        """Stores an archive.

        Args:
            name: Of the model.
            path: Of the file.

        Returns:
            Its key, its SHA-256 in hex, and its size in bytes.
        """
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            file.seek(0)
            key = f"archives/{check_name(name)}/{sha256}/{time.time_ns():016x}-{secrets.token_hex(6)}"
            part = max(_PART, -(-size // _MOST_PARTS))
            self._asked.put(key, file, part if size > part else 0)
        return key, sha256, size

    def fetch(self, name: str, version: StoredVersion, path: Path) -> None:
        """See `Registry`."""
        hashed = hashlib.sha256()
        try:
            if (size := self._asked.size(version.key)) != version.size:
                raise DataLoss(
                    f"the archive of {name} {version.version} is damaged in {self.where}: it has {size} bytes, and "
                    f"{version.size} by its record"
                )
            with path.open("wb") as file:
                for start in range(0, version.size, _PART):
                    part = self._asked.part(version.key, start, min(start + _PART, version.size))
                    hashed.update(part)
                    file.write(part)
        except FileNotFoundError:
            raise NotFound(f"the archive of {name} {version.version} is not in {self.where} any more") from None
        except OSError as error:
            if error.errno in FULL:
                raise ResourceExhausted(f"the disk of {path.parent} is full ({error.strerror})") from error
            raise
        if hashed.hexdigest() != version.sha256:
            _log.error("%s/%s is damaged", self.where, version.key)
            raise DataLoss(f"the archive of {name} {version.version} is damaged in {self.where}: its SHA-256 differs")

    def remove(self, keys: list[str]) -> None:
        """Removes archives that no record names."""
        self._asked.remove(keys)

    def tidy(self, name: str) -> None:
        """Removes archives that processes have left which were killed before a record named them."""
        before = time.time() - _OLD
        old = [each.key for each in self._asked.listed(f"archives/{check_name(name)}") if each.modified < before]
        if old:
            record = self.record(name)  # after the list: what is named now was uploaded before
            named = {each.key for each in record.versions} if record else set()
            self._asked.remove([key for key in old if key not in named])

    def want(self, name: str, version: str) -> None:
        """See `Registry`."""
        self.change(name, lambda record: record.wanting(version))

    def report(self, node: str, content: bytes) -> None:
        """See `Registry`."""
        self._asked.put(_report_key(node), content)

    def reports(self) -> Mapping[str, Told]:
        """See `Registry`."""
        told = {}
        for each in self._asked.listed("agents"):
            content = self._asked.get(each.key)
            if content is not None and each.key.endswith(".json"):
                told[each.key.removeprefix("agents/").removesuffix(".json")] = Told(content, each.modified)
        return told

    def forget(self, node: str) -> None:
        """See `Registry`."""
        self._asked.remove([_report_key(node)])

    def check(self) -> None:
        """Sees whether the bucket can be written, and heeds conditions: without these, changes could get lost.

        Raises:
            Unavailable: It cannot be written; told with all that is known.
            FailedPrecondition: It does not heed conditions.
        """
        self._asked.check()
        self._asked.swap(_PROBE, None, b"models")
        if self._asked.swap(_PROBE, None, b"again") is not None or self._asked.swap(_PROBE, '"0"', b"0") is not None:
            raise FailedPrecondition(
                f"store: {self.where} does not heed the conditions If-Match and If-None-Match of writes; models need a "
                "bucket that does",
                field="store",
            )


def _named(name: str) -> bool:
    try:
        return bool(check_name(name))
    except InvalidArgument:
        return False


def _key(name: str) -> str:
    return f"names/{check_name(name)}.json"


def _report_key(node: str) -> str:
    return f"agents/{check_name(node)}.json"
