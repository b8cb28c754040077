"""A folder on this machine that follows a model store in a bucket: everybody here reads archives in it.

Each look asks the bucket for the record of the model, and fetches what is missing. Changes are made in the bucket; the
folder follows. Several processes may use one folder.

    NAME.mar, NAME@N.mar, NAME.default    as in every model store, see `ouzel.model_files`
    .mirror/NAME.json                     which archives were fetched, by their SHA-256
    .mirror/NAME.lock                     held by who fetches
    .mirror/new/...                       archives before they are uploaded
"""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ouzel.durable_files import written
from ouzel.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound
from ouzel.model_file import DAMAGED_MARK, ModelFile
from ouzel.registry.bucket import BucketRegistry
from ouzel.registry.record import ModelRecord, StoredVersion

_log = logging.getLogger(__name__)
_FRESH = 0.5  # s for which a look holds
_AGAIN = 60.0  # s after which a damaged archive is fetched again
_TRIES = 3  # of a look whose archives go away meanwhile

Describe = Callable[[Path], ModelFile]


class VersionTaken(AlreadyExists):
    """Another machine has just used the number of a version."""


class Mirror:
    """See the module.

    Args:
        registry: Of the bucket.
        folder: On this machine. Nobody else writes to it.
    """

    def __init__(self, registry: BucketRegistry, folder: Path) -> None:
        self.registry, self._folder = registry, folder
        self._own = folder / ".mirror"
        (self._own / "new").mkdir(parents=True, exist_ok=True)
        self._looked: dict[str, float] = {}
        self._damaged: dict[tuple[str, str], float] = {}

    def follow(self, name: str) -> None:
        """Makes the archives of a model those of the bucket.

        Raises:
            StorageAway: The bucket does not answer.
            DataLoss: Its record of the model is damaged.
            ResourceExhausted: The disk is full.
        """
        if time.monotonic() - self._looked.get(name, float("-inf")) < _FRESH:
            return
        with self._locked(name):
            for left in reversed(range(_TRIES)):
                try:
                    self._apply(self.registry.record(name) or ModelRecord(name), last=not left)
                    break
                except NotFound:  # an archive that has just been removed or replaced
                    continue
        self._looked[name] = time.monotonic()

    def follow_all(self) -> None:
        """The same for all models. One whose record is damaged is left as it is, and said in the log."""
        names = self.registry.names()
        here = {path.stem for path in self._own.glob("*.json")}
        now = time.monotonic()
        for name in sorted({*names, *here}):
            tag = names.get(name)
            if tag is not None and tag == self._held(name)[0] and self._whole(name):
                self._looked[name] = now
                continue
            try:
                self.follow(name)
            except DataLoss as error:
                _log.error("%s", error)

    def add(self, name: str, version: str, write: Callable[[Path], object], describe: Describe, *, plain: bool) -> Path:
        """Adds a version: in the bucket it is there whole or not at all.

        Args:
            name: Of the model.
            version: Of the model.
            write: Writes the archive to a path.
            describe: Reads what an archive says of itself.
            plain: Whether it is an operator's, which takes the place of the one before.

        Returns:
            Where the archive is on this machine.

        Raises:
            VersionTaken: Another machine has used the number meanwhile.
            AlreadyExists: The name has become somebody else's meanwhile.
            StorageAway: The bucket does not answer.
        """
        folder = Path(tempfile.mkdtemp(dir=self._own / "new"))
        try:
            path = folder / (f"{name}.mar" if plain else f"{name}@{version}.mar")
            write(path)
            file = describe(path)
            if file.error:
                raise DataLoss(f"the new archive of {name} {version} cannot be read: {file.error}")
            key, sha256, size = self.registry.upload(name, path)
            added = StoredVersion(
                version, plain, sha256, size, key, file.digest, file.job, file.publication, file.held_back
            )
            self._enter(name, added, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.registry.tidy(name)
        return self._folder / path.name

    def promote(self, name: str, version: str) -> None:
        """Makes a version the default. Raises NotFound."""
        self._change(name, lambda record: record.promoted(version))

    def want(self, name: str, version: str) -> None:
        """Has agents load a version. Raises NotFound."""
        self._change(name, lambda record: record.wanting(version))

    def remove(self, name: str, file: str, *, unless_default: bool = False) -> None:
        """Removes a version.

        Args:
            name: Of the model.
            file: The name of its archive.
            unless_default: Whether the default beside other versions is refused: FailedPrecondition.
        """

        def edit(record: ModelRecord) -> ModelRecord:
            found = next((each for each in record.versions if record.file(each) == file), None)
            if found is None:
                return record
            if unless_default and len(record.versions) > 1 and record.default == found.version:
                raise FailedPrecondition(
                    f"version: {found.version} is the default of {name!r}; promote another one first", field="version"
                )
            return record.without(found.version)

        self._change(name, edit)

    def remove_unchosen(self, file: ModelFile) -> bool:
        """Removes a version unless it was made the default, or another one has its number; says whether it did."""
        removed = False

        def edit(record: ModelRecord) -> ModelRecord:
            nonlocal removed
            found = next((each for each in record.versions if record.file(each) == file.path.name), None)
            same = found is not None and file.digest in ("", found.digest)  # "": it is damaged here
            removed = removed and found is None  # the answer to an earlier try got lost
            if found is None or not same or record.chosen == found.version:
                return record
            removed = True
            return record.without(found.version)

        self._change(file.name, edit)
        return removed

    def chosen(self, name: str) -> str:
        """The version that was made the default, as the bucket says at this moment; "" if none was."""
        self._looked.pop(name, None)  # there may be something new to be seen
        return (self.registry.record(name) or ModelRecord(name)).chosen

    def _change(self, name: str, edit: Callable[[ModelRecord], ModelRecord]) -> None:
        with self._locked(name):
            before, after = self.registry.change(name, edit)
            self._apply(after)
            self._looked[name] = time.monotonic()
        kept = {each.key for each in after.versions}
        if gone := [each.key for each in before.versions if each.key not in kept]:
            self.registry.remove(gone)

    def _enter(self, name: str, added: StoredVersion, path: Path) -> None:
        """Names an uploaded archive in the record, and moves it to its place here."""

        def edit(record: ModelRecord) -> ModelRecord:
            same = record.find(added.version)
            if same is not None and same.key == added.key:
                return record  # the answer to an earlier try got lost
            others = [each for each in record.versions if not (each.plain and added.plain)]
            if any(each.plain != added.plain for each in others):
                raise AlreadyExists(f"name: {name!r} has become somebody else's model; choose another name")
            if any((each.job, each.publication) == (added.job, added.publication) for each in others):
                raise VersionTaken(f"{name}: job {added.job} has published this from another machine")
            if any(each.version == added.version for each in others):
                raise VersionTaken(f"{name}: version {added.version} was published from another machine just now")
            return record.with_version(added)

        try:
            with self._locked(name):
                before, after = self.registry.change(name, edit)
                _, held = self._held(name)
                path.replace(self._folder / path.name)
                self._hold(name, "", held | {path.name: added.sha256})
                self._apply(after)
                self._looked[name] = time.monotonic()
        except AlreadyExists:
            self._looked.pop(name, None)  # there is something new to be seen
            self.registry.remove([added.key])
            raise
        kept = {each.key for each in after.versions}
        self.registry.remove([each.key for each in before.versions if each.key not in kept])

    def _apply(self, record: ModelRecord, *, last: bool = True) -> None:
        """Makes the folder what a record says. The caller holds the lock.

        Args:
            record: Of the model.
            last: Whether an archive that is gone counts as damaged: else NotFound is raised, and the record read again.
        """
        name = record.name
        tag, held = self._held(name)
        files = {record.file(each): each for each in record.versions}
        if tag == record.tag and held.keys() == files.keys() and self._whole(name):
            return
        for file, version in files.items():
            path = self._folder / file
            if held.get(file) == version.sha256 and _size(path) == version.size:
                continue
            if time.monotonic() < self._damaged.get((file, version.key), 0.0):
                continue
            held.pop(file, None)
            if self._fetched(name, version, path, last):
                held[file] = version.sha256
        for path in (self._folder / f"{name}.mar", *self._folder.glob(f"{name}@*.mar")):
            if path.name not in files:
                path.unlink(missing_ok=True)
        sidecar = self._folder / f"{name}.default"
        if not record.chosen:
            sidecar.unlink(missing_ok=True)
        elif _text(sidecar) != record.chosen:
            with written(sidecar) as temporary:
                temporary.write_text(f"{record.chosen}\n", encoding="ascii")
        if files:
            self._hold(name, record.tag, {file: held[file] for file in files if file in held})
        else:
            (self._own / f"{name}.json").unlink(missing_ok=True)

    def _fetched(self, name: str, version: StoredVersion, path: Path, last: bool) -> bool:
        """Fetches an archive; in the place of a damaged one lies what says so."""
        try:
            with written(path) as temporary:
                self.registry.fetch(name, version, temporary)
            return True
        except (DataLoss, NotFound) as error:
            if isinstance(error, NotFound) and not last:
                raise
            self._damaged[path.name, version.key] = time.monotonic() + _AGAIN
            with written(path) as temporary:
                temporary.write_bytes(DAMAGED_MARK + str(error).encode())
            return False

    def _whole(self, name: str) -> bool:
        """Whether all archives that were fetched are there."""
        _, held = self._held(name)
        return all((self._folder / file).is_file() for file in held)

    def _held(self, name: str) -> tuple[str, dict[str, str]]:
        """The tag of the record that was followed last, and the SHA-256 of each archive that was fetched."""
        try:
            values = json.loads((self._own / f"{name}.json").read_text(encoding="utf-8"))
            return str(values["tag"]), {str(file): str(sha256) for file, sha256 in values["files"].items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return "", {}

    def _hold(self, name: str, tag: str, files: dict[str, str]) -> None:
        with written(self._own / f"{name}.json") as temporary:
            temporary.write_text(json.dumps({"tag": tag, "files": files}), encoding="utf-8")

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self._own / f"{name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _size(path: Path) -> int | None:
    with suppress(OSError):
        return path.stat().st_size
    return None


def _text(path: Path) -> str:
    with suppress(OSError, ValueError):
        return path.read_text(encoding="ascii").strip()
    return ""
