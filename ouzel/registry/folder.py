"""A model store in a folder that several machines mount, as agents see it.

.agents/NODE.json     what an agent serves
.agents/identity      tells this store from another folder in its place, as one where nothing is mounted
.NAME.wanted          versions that are to be loaded although they are neither the default nor new
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ouzel.buckets import StorageAway
from ouzel.durable_files import FULL, written
from ouzel.errors import DataLoss, NotFound, ResourceExhausted
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.model_names import check_name
from ouzel.registry.identity import new_identity, read_identity
from ouzel.registry.record import ModelRecord, StoredVersion
from ouzel.registry.registry import Told

_OWN = ".agents"
_NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)


class FolderRegistry:
    """See `Registry`. An archive has no recorded SHA-256: it is that of the file as it was first seen.

    Args:
        folder: The model store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, ModelFiles(folder)

    @property
    def where(self) -> str:
        """See `Registry`."""
        return str(self._folder)

    def identity(self) -> str:
        """See `Registry`."""
        self._check()
        place = self._folder / _OWN / "identity"
        try:
            content = place.read_bytes()
        except FileNotFoundError:
            content = None
        except OSError as error:
            raise StorageAway(f"{place} cannot be read ({error.strerror})") from error
        return read_identity(content, str(place))

    def identify(self) -> str:
        """See `Registry`."""
        if known := self.identity():
            return known
        place = self._folder / _OWN / "identity"
        try:
            place.parent.mkdir(exist_ok=True)
            with suppress(FileExistsError), written(place, replace=False) as temporary:  # the first of several wins
                temporary.write_bytes(new_identity())
        except OSError as error:
            if error.errno in _NOT_ALLOWED:
                return ""
            raise StorageAway(f"{place} cannot be written ({error.strerror})") from error
        return self.identity()

    def names(self) -> Mapping[str, str]:
        """See `Registry`."""
        self._check()
        found: dict[str, list[str]] = {}
        for file in self._files.all():
            found.setdefault(file.name, []).append(f"{file.path.name} {_stat(file.path)}")
        return {
            name: hashlib.sha256("\n".join([*parts, *self._sidecars(name)]).encode()).hexdigest()
            for name, parts in found.items()
        }

    def record(self, name: str) -> ModelRecord | None:
        """See `Registry`."""
        self._check()
        files = self._files.of(name)
        versions = [made for file in files if (made := _version(file)) is not None]
        if not versions:
            return None
        chosen = _text(self._folder / f"{name}.default")
        if chosen not in {file.version for file in files}:
            chosen = ""
        wanted = tuple(sorted(self._files.wanted(name)))
        tag = hashlib.sha256(repr((versions, self._sidecars(name))).encode()).hexdigest()
        return ModelRecord(name, tuple(versions), chosen, wanted, tag)

    def fetch(self, name: str, version: StoredVersion, path: Path) -> None:
        """See `Registry`."""
        try:
            shutil.copyfile(self._folder / version.key, path)
        except FileNotFoundError:
            raise NotFound(f"the archive of {name} {version.version} is not in {self.where} any more") from None
        except OSError as error:
            if error.errno in FULL:
                raise ResourceExhausted(f"the disk of {path.parent} is full ({error.strerror})") from error
            raise StorageAway(f"{self.where} cannot be read ({error.strerror})") from error
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != version.sha256:
                raise DataLoss(f"the archive of {name} {version.version} has changed while it was copied")

    def want(self, name: str, version: str) -> None:
        """See `Registry`."""
        self._files.want(name, version)

    def report(self, node: str, content: bytes) -> None:
        """See `Registry`."""
        self._check()  # else the folder would be made where it is not mounted
        place = self._folder / _OWN / f"{check_name(node)}.json"
        try:
            place.parent.mkdir(exist_ok=True)
            with written(place) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            raise StorageAway(f"{place} cannot be written ({error.strerror})") from error

    def reports(self) -> Mapping[str, Told]:
        """See `Registry`."""
        self._check()
        told = {}
        for path in (self._folder / _OWN).glob("[!.]*.json"):
            with suppress(FileNotFoundError):
                told[path.stem] = Told(path.read_bytes(), path.stat().st_mtime)
        return told

    def forget(self, node: str) -> None:
        """See `Registry`."""
        (self._folder / _OWN / f"{check_name(node)}.json").unlink(missing_ok=True)

    def _check(self) -> None:
        """A folder that is not mounted must not look like one whose models were all deleted."""
        if not self._folder.is_dir():
            raise StorageAway(f"the model store {self.where} is not there")

    def _sidecars(self, name: str) -> list[str]:
        return [_text(self._folder / f"{name}.default"), _text(self._folder / f".{name}.wanted")]


def _version(file: ModelFile) -> StoredVersion | None:
    """None for an archive that is damaged, or is gone."""
    if file.error or not file.version:
        return None
    try:
        sha256 = _sha256(file.path, _stat(file.path))
    except FileNotFoundError:
        return None
    except OSError as error:  # it is not gone: what is served of it stays
        raise StorageAway(f"{file.path} cannot be read ({error.strerror})") from error
    plain = "@" not in file.path.stem
    return StoredVersion(
        file.version,
        plain,
        sha256,
        file.size,
        file.path.name,
        file.digest,
        file.job,
        file.publication,
        file.held_back,
    )


def _text(path: Path) -> str:
    with suppress(OSError, ValueError):
        return path.read_text(encoding="ascii").strip()
    return ""


def _stat(path: Path) -> str:
    try:
        status = path.stat()
    except FileNotFoundError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"


@lru_cache(maxsize=4096)
def _sha256(path: Path, _known: str) -> str:
    """Of a file, read once as long as it is the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
