"""The files of a model store: names, versions, which of them is the default. Without torch: services look here too.

    NAME.mar        what an operator has put there; its manifest says the version
    NAME@N.mar      version N of a tuned model
    NAME.default    the version for callers who name none; absent: that of NAME.mar, else the lowest that no gate has
                    held back; there is none if all were
    .NAME.wanted    versions that agents are to load although they are neither the default nor new
    .NAME.lock      held by whoever adds or removes versions, or changes the default

A store in a bucket is a folder, too: one on this machine that follows it (`ouzel.registry.mirror`).

A name that is asked for may carry a version: "name@2".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ouzel.durable_files import sync_folder, written
from ouzel.errors import FailedPrecondition, NotFound
from ouzel.model_file import CARD, MANIFEST, ModelFile, archives, card
from ouzel.model_locks import locked, writing
from ouzel.model_names import check_name, check_version

if TYPE_CHECKING:
    from ouzel.registry.mirror import Mirror

__all__ = ["CARD", "MANIFEST", "ModelFile", "ModelFiles", "card"]


class ModelFiles:
    """The archives in `folder`, which may be missing. Names with a path in them are refused: InvalidArgument.

    Args:
        folder: Of the archives.
        mirror: Has the folder follow a bucket, see `ouzel.registry.opening.mirrored`; None for a store of its own. All
            methods then raise StorageAway while the bucket does not answer.
    """

    def __init__(self, folder: str | Path, mirror: Mirror | None = None) -> None:
        self.folder = Path(folder)
        self.mirror = mirror

    @property
    def where(self) -> str:
        """The store, for messages to the operator."""
        return str(self.folder) if self.mirror is None else self.mirror.registry.where

    def all(self) -> tuple[ModelFile, ...]:
        """By name, and then by version, lowest first."""
        if self.mirror is not None:
            self.mirror.follow_all()
        return archives(path for path in self.folder.glob("*.mar") if not path.name.startswith("."))

    def of(self, name: str) -> tuple[ModelFile, ...]:
        """The versions of a model, lowest first; none if there is no such model."""
        check_name(name)
        if self.mirror is not None:
            self.mirror.follow(name)
        return archives([self.folder / f"{name}.mar", *self.folder.glob(f"{name}@*.mar")])

    def file(self, reference: str) -> ModelFile:
        """Of "name" the default, of "name@version" that version. Raises NotFound, which says what there is."""
        name, at, version = reference.partition("@")
        files = self.of(name)
        if not files:
            held = ", ".join(dict.fromkeys(file.name for file in self.all())) or "nothing"
            raise NotFound(f"name: no model {name!r} in {self.where}, which holds {held}", field="name")
        if not at:
            default = self.default_of(files)
            if default is None:
                held = ", ".join(f"{file.name}@{file.version}" for file in files)
                raise NotFound(
                    f"name: no version of {name!r} is the default, because their gates held them back; name one of "
                    f"{held}, or promote one",
                    field="name",
                )
            return default
        return self._version(files, check_version(version))

    def version(self, name: str, version: str) -> ModelFile:
        """A version, without a look at all others. Raises NotFound, which says what there is."""
        if self.mirror is not None:
            self.mirror.follow(check_name(name))
        near = [self.folder / f"{check_name(name)}@{check_version(version)}.mar", self.folder / f"{name}.mar"]
        found = next((file for file in archives(near) if file.version == version), None)
        return found or self.file(f"{name}@{version}")

    def find(self, reference: str) -> Path:
        """The archive of "name" or "name@version". Raises NotFound."""
        return self.file(reference).path

    def default(self, name: str) -> str:
        """The version for callers who name none. Raises NotFound."""
        return self.file(name).version

    def default_of(self, files: tuple[ModelFile, ...]) -> ModelFile | None:
        """Which of the versions of one model, one at least, is its default; None if gates held back all of them."""
        name = files[0].name
        try:
            chosen = self._sidecar(name).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            chosen = None
        plain = (file for file in files if file.path.name == f"{name}.mar")
        promoted = next((file for file in files if file.version == chosen), None)
        return promoted or next(plain, next((file for file in files if not file.held_back), None))

    def defaults(self) -> dict[str, ModelFile]:
        """The default version of every model that has one, by name."""
        groups = groupby(self.all(), key=lambda file: file.name)
        found = {name: self.default_of(tuple(files)) for name, files in groups}
        return {name: file for name, file in found.items() if file is not None}

    def kept(self, files: tuple[ModelFile, ...], most: int) -> tuple[ModelFile, ...]:
        """Of the versions of one model, lowest first, those that stay loaded.

        Args:
            files: The versions of one model.
            most: How many stay.

        Returns:
            The default one first, and then the newest of the others, lowest first. None without a default: a server
            would take the first that it loads for it.
        """
        default = self.default_of(files)
        if default is None:
            return ()
        return default, *[file for file in files if file != default][-most + 1 or len(files) :]

    def promote(self, name: str, version: str) -> None:
        """Make a version the default. Raises NotFound, or FailedPrecondition for a store that cannot be written."""
        self.file(f"{name}@{version}")
        if self.mirror is not None:
            self.mirror.promote(name, version)
            return
        with self.locked(name):
            self._version(self.of(name), version)  # it may be gone by now
            self._wanted(name).unlink(missing_ok=True)
            with self.writing(), written(self._sidecar(name)) as temporary:
                temporary.write_text(f"{version}\n", encoding="ascii")

    def want(self, name: str, version: str) -> None:
        """Has agents load a version although it is neither the default nor new. Raises as `promote`."""
        self.file(f"{name}@{version}")
        if self.mirror is not None:
            self.mirror.want(name, version)
            return
        with self.locked(name):
            self._version(self.of(name), version)
            if version not in (known := self.wanted(name)):
                with self.writing(), written(self._wanted(name)) as temporary:
                    temporary.write_text("".join(f"{each}\n" for each in sorted({*known, version})), encoding="ascii")

    def wanted(self, name: str) -> frozenset[str]:
        """The versions that were asked for by `want` since the last change, in a store of its own."""
        try:
            return frozenset(self._wanted(check_name(name)).read_text(encoding="ascii").split())
        except (OSError, ValueError):
            return frozenset()

    def add(self, name: str, version: str, write: Callable[[Path], object], *, plain: bool = False) -> Path:
        """Adds an archive.

        Args:
            name: Of the model.
            version: Of the model.
            write: Writes the archive to a path, whole or not at all.
            plain: Whether it is an operator's, NAME.mar, which takes the place of the one before.

        Returns:
            Its path.

        Raises:
            VersionTaken: Of a bucket: another machine has used the number meanwhile.
            AlreadyExists: Of a bucket: the name has become somebody else's meanwhile.
        """
        if self.mirror is not None:
            return self.mirror.add(name, version, write, lambda path: archives([path])[0], plain=plain)
        path = self.folder / (f"{name}.mar" if plain else f"{name}@{version}.mar")
        write(path)
        self._wanted(name).unlink(missing_ok=True)  # who still waits says so again
        return path

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
        if self.mirror is not None:
            self.mirror.remove(file.name, file.path.name)
            return
        with self.locked(file.name), self.writing():
            self._discard(file)

    def withdraw(self, name: str, version: str, *, unless_default: bool = False) -> None:
        """Remove a version. Raises NotFound, and if asked to, FailedPrecondition for the default beside others."""
        found = self.file(f"{name}@{version}")
        if self.mirror is not None:
            self.mirror.remove(name, found.path.name, unless_default=unless_default)
            return
        with self.locked(name):
            files = self.of(name)
            file = self._version(files, version)
            if unless_default and len(files) > 1 and self.default_of(files) == file:
                raise FailedPrecondition(
                    f"version: {version} is the default of {name!r}; promote another one first", field="version"
                )
            with self.writing():
                self._discard(file)

    def withdraw_unchosen(self, file: ModelFile) -> bool:
        """Removes a version unless it was made the default, or another one has its number. Whether it did; one step."""
        if self.mirror is not None:
            return self.mirror.remove_unchosen(file)
        with self.locked(file.name):
            found = [each for each in self.of(file.name) if each.path.name == file.path.name]
            if not found or found[0].digest != file.digest or self.chosen(file.name) == file.version:
                return False
            with self.writing():
                self._discard(file)
        return True

    def chosen(self, name: str) -> str:
        """The version that was made the default, as the store says at this moment; "" if none was."""
        if self.mirror is not None:
            return self.mirror.chosen(name)
        try:
            return self._sidecar(check_name(name)).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""

    def _discard(self, file: ModelFile) -> None:
        """Remove an archive, and the choice of a default that has none any more."""
        file.path.unlink(missing_ok=True)
        left = self.of(file.name)
        if not left:
            for partial in self.folder.glob(f".{file.name}@*.mar.*"):  # of processes that were killed
                partial.unlink(missing_ok=True)
            self._wanted(file.name).unlink(missing_ok=True)
        sidecar = self._sidecar(file.name)
        if sidecar.is_file() and sidecar.read_text("ascii").strip() not in {each.version for each in left}:
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
            lock = locked(path)
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
        with writing(self.folder):
            yield

    def _sidecar(self, name: str) -> Path:
        return self.folder / f"{name}.default"

    def _wanted(self, name: str) -> Path:
        return self.folder / f".{name}.wanted"

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
