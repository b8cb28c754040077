"""The files of a model store: names, versions, which of them is the default. Without torch: services look here too.

    NAME.mar        what an operator has put there; its manifest says the version
    NAME@N.mar      version N of a tuned model
    NAME.default    the version for callers who name none; absent: that of NAME.mar, else the lowest
    .NAME.lock      held by whoever adds or removes versions, or changes the default

A name that is asked for may carry a version: "name@2".
"""

from __future__ import annotations

import fcntl
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from ouzel.durable_files import FULL, sync_folder, written
from ouzel.errors import FailedPrecondition, NotFound, OuzelError, ResourceExhausted
from ouzel.model_names import check_name, check_version, version_key

MANIFEST, CARD = "MAR-INF/MANIFEST.json", "model.json"
_LARGEST = 64 * 2**20  # bytes of a member that is read
_UNSOUND = (zipfile.BadZipFile, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError)


@dataclass(frozen=True)
class ModelFile:
    """One archive.

    Attributes:
        name: Of the model.
        version: Of the model.
        path: Of the file.
        size: In bytes.
        arch: `torchvision:NAME` or `timm:NAME`.
        digest: "sha256:<hex>" of the weights.
        classes: How many.
        lineage: Where a tuned model comes from; None for an operator's.
        error: Why the archive cannot be used; what could not be read is then empty.
    """

    name: str
    version: str
    path: Path
    size: int
    arch: str = ""
    digest: str = ""
    classes: int = 0
    lineage: Mapping[str, Any] | None = None
    error: str = ""

    @property
    def owner(self) -> str:
        """Whose tuned model it is; "" for an operator's."""
        return str((self.lineage or {}).get("owner", ""))

    @property
    def job(self) -> str:
        """The job that made it; "" for an operator's."""
        return str((self.lineage or {}).get("job", ""))

    def seen_by(self, owner: str | None) -> bool:
        """Whether `owner` may know of it; None may know of all."""
        return owner is None or self.lineage is None or self.owner == owner


class ModelFiles:
    """The archives in `folder`, which may be missing. Names with a path in them are refused: InvalidArgument."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def all(self) -> tuple[ModelFile, ...]:
        """By name, and then by version, lowest first."""
        return _files(path for path in self.folder.glob("*.mar") if not path.name.startswith("."))

    def of(self, name: str) -> tuple[ModelFile, ...]:
        """The versions of a model, lowest first; none if there is no such model."""
        check_name(name)
        return _files([self.folder / f"{name}.mar", *self.folder.glob(f"{name}@*.mar")])

    def file(self, reference: str) -> ModelFile:
        """Of "name" the default, of "name@version" that version. Raises NotFound, which says what there is."""
        name, at, version = reference.partition("@")
        files = self.of(name)
        if not files:
            held = ", ".join(dict.fromkeys(file.name for file in self.all())) or "nothing"
            raise NotFound(f"name: no model {name!r} in {self.folder}, which holds {held}", field="name")
        if not at:
            return self.default_of(files)
        return self._version(files, check_version(version))

    def find(self, reference: str) -> Path:
        """The archive of "name" or "name@version". Raises NotFound."""
        return self.file(reference).path

    def default(self, name: str) -> str:
        """The version for callers who name none. Raises NotFound."""
        return self.file(name).version

    def default_of(self, files: tuple[ModelFile, ...]) -> ModelFile:
        """Which of the versions of one model is its default."""
        name = files[0].name
        try:
            chosen = self._sidecar(name).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            chosen = None
        plain = (file for file in files if file.path.name == f"{name}.mar")
        return next((file for file in files if file.version == chosen), None) or next(plain, files[0])

    def defaults(self) -> dict[str, ModelFile]:
        """The default version of every model, by name."""
        groups = groupby(self.all(), key=lambda file: file.name)
        return {name: self.default_of(tuple(files)) for name, files in groups}

    def kept(self, files: tuple[ModelFile, ...], most: int) -> tuple[ModelFile, ...]:
        """Of the versions of one model, lowest first, those that stay loaded.

        Args:
            files: The versions of one model.
            most: How many stay.

        Returns:
            The default one first, and then the newest of the others, lowest first.
        """
        default = self.default_of(files)
        return default, *[file for file in files if file != default][-most + 1 or len(files) :]

    def promote(self, name: str, version: str) -> None:
        """Make a version the default. Raises NotFound, or FailedPrecondition for a store that cannot be written."""
        self.file(f"{name}@{version}")
        with self.locked(name):
            self._version(self.of(name), version)  # it may be gone by now
            with self.writing(), written(self._sidecar(name)) as temporary:
                temporary.write_text(f"{version}\n", encoding="ascii")

    def only(self, reference: str) -> ModelFile:
        """Of "name@version" that version, of "name" its only one. Raises NotFound; FailedPrecondition for several."""
        file = self.file(reference)
        files = self.of(file.name)
        if len(files) > 1 and "@" not in reference:
            known = ", ".join(f"{each.name}@{each.version}" for each in files)
            raise FailedPrecondition(f"name: {reference!r} has several versions; say which: {known}", field="name")
        return file

    def remove(self, reference: str) -> None:
        """Delete an archive, a damaged one too; nothing is left of a model without any. Raises as `only`."""
        self.discard(self.only(reference))

    def discard(self, file: ModelFile) -> None:
        """The same of an archive that `only` or `file` gave."""
        with self.locked(file.name), self.writing():
            self._discard(file)

    def withdraw(self, name: str, version: str, *, unless_default: bool = False) -> None:
        """Remove a version. Raises NotFound, and if asked to, FailedPrecondition for the default beside others."""
        self.file(f"{name}@{version}")
        with self.locked(name):
            files = self.of(name)
            file = self._version(files, version)
            if unless_default and len(files) > 1 and self.default_of(files).version == version:
                raise FailedPrecondition(
                    f"version: {version} is the default of {name!r}; promote another one first", field="version"
                )
            with self.writing():
                self._discard(file)

    def _discard(self, file: ModelFile) -> None:
        """Remove an archive, and the choice of a default that has none any more."""
        file.path.unlink(missing_ok=True)
        left = self.of(file.name)
        if not left:
            for partial in self.folder.glob(f".{file.name}@*.mar.*"):  # of processes that were killed
                partial.unlink(missing_ok=True)
        sidecar = self._sidecar(file.name)
        if sidecar.is_file() and (not left or self.default_of(left).version != sidecar.read_text("ascii").strip()):
            sidecar.unlink(missing_ok=True)
        sync_folder(self.folder)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Nobody else adds or removes versions of the model meanwhile. The lock is free however its holder ends.

        Not to be taken twice, not even by one thread. Raises FailedPrecondition if the store cannot be written.
        """
        with self.writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f".{check_name(name)}.lock"
            lock = _locked(path)
        with lock:
            try:
                yield
            finally:
                if not self.of(name):  # a model that is gone leaves nothing behind
                    with suppress(OSError):
                        path.unlink(missing_ok=True)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Errors of the file system become ResourceExhausted (a full disk) or FailedPrecondition (all others)."""
        try:
            yield
        except OSError as error:
            if isinstance(error, OuzelError):
                raise
            reason = error.strerror or type(error).__name__
            if error.errno in FULL:
                raise ResourceExhausted(f"the disk of the model store {self.folder} is full ({reason})") from error
            raise FailedPrecondition(f"the model store {self.folder} cannot be written: {reason}") from error

    def _sidecar(self, name: str) -> Path:
        return self.folder / f"{name}.default"

    @staticmethod
    def _version(files: tuple[ModelFile, ...], version: str) -> ModelFile:
        for file in files:
            if file.version == version:
                return file
        raise NotFound(
            f"version: no version {version!r} of {files[0].name if files else 'it'!r}, which has "
            f"{', '.join(file.version or 'a damaged one' for file in files) or 'none'}",
            field="version",
        )


def _locked(path: Path) -> IO[bytes]:
    """The file, locked. Whoever had it before may have removed it: then the one that is there now counts."""
    while True:
        lock = path.open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        lock.close()


def card(path: Path) -> dict[str, Any]:
    """model.json of an archive, as it is. Raises FailedPrecondition."""
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_member(archive, CARD))
    except (*_UNSOUND, OSError) as error:
        raise FailedPrecondition(f"{path}: {_said(error)}") from error


def _files(paths: Iterator[Path] | list[Path]) -> tuple[ModelFile, ...]:
    files = []
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):  # removed meanwhile, or never there
            status = path.stat()
            files.append(_looked_at(path, status.st_size, status.st_mtime_ns, status.st_ino))
    return tuple(sorted(files, key=lambda file: (file.name, version_key(file.version), file.path)))


@lru_cache(maxsize=4096)
def _looked_at(path: Path, size: int, _mtime: int, _inode: int) -> ModelFile:
    """What the archive says of itself, read once as long as it is the same."""
    name, _, version = path.stem.partition("@")
    try:
        with zipfile.ZipFile(path) as archive:
            theirs = str(_member(archive, MANIFEST)["model"]["modelVersion"])
            if version not in ("", theirs):
                raise ValueError(f"the archive is version {theirs} by its manifest")
            version = theirs
            described = _member(archive, CARD)
        lineage = described.get("lineage")
        digest, classes = str(described["weights"]["digest"]), len(described["labels"])
        if not isinstance(lineage, Mapping | None):
            raise TypeError("lineage is not an object")
        return ModelFile(name, version, path, size, str(described["arch"]), digest, classes, lineage)
    except zipfile.BadZipFile as error:
        return ModelFile(name, version, path, size, error=f"{path}: is not a sound zip file ({_said(error)})")
    except _UNSOUND as error:
        return ModelFile(name, version, path, size, error=f"{path}: {_said(error)}")


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    if archive.getinfo(name).file_size > _LARGEST:
        raise ValueError(f"{name} has more than {_LARGEST} bytes")
    return json.loads(archive.read(name))


def _said(error: Exception) -> str:
    return str(error).strip("'\"") or type(error).__name__
