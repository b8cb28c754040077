"""The folder that a TorchServe serves, as far as archives come into it from a store that many machines share.

NAME.mar, NAME@N.mar, NAME.default    as in every model store
.agent/fetched.json                   which archives were fetched, by their SHA-256
.agent/from                           the store that they are of
.agent/identity                       of that store, by which it is known wherever it is mounted
.agent/lock                           held by the agent
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ouzel.buckets import StorageAway
from ouzel.durable_files import written
from ouzel.errors import FailedPrecondition
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.registry.identity import read_identity
from ouzel.registry.record import ModelRecord, StoredVersion
from ouzel.registry.registry import Registry


class OtherStore(StorageAway):
    """What is found in the place of the store is another one, or an empty folder where it is not mounted."""


class Fetched:
    """See the module.

    Args:
        registry: The store.
        folder: The folder. Nobody but the agent writes to it.
    """

    def __init__(self, registry: Registry, folder: Path) -> None:
        self._registry, self._folder, self._own = registry, folder, folder / ".agent"
        self.files = ModelFiles(folder)
        self._known: dict[str, str] = {}
        self._checked: set[str] = set()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Nobody else has the folder meanwhile.

        Raises:
            FailedPrecondition: Another agent has it, or it holds models that are not from this store.
        """
        self._own.mkdir(parents=True, exist_ok=True)
        with (self._own / "lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FailedPrecondition(f"store: another agent has {self._folder}", field="store") from None
            self._known = self._read()
            self._check_ours()
            yield

    def check_source(self) -> None:
        """Sees that what is in the place of the store is the store that the archives here are of.

        Its models are to be looked at between two such checks: it may be mounted, or go away, at any moment.

        Raises:
            OtherStore: It is not.
            StorageAway: It does not answer.
        """
        expected = self._expected()
        if expected and (seen := self._registry.identity()) != expected:
            what = "another model store" if seen else "not the model store"
            raise OtherStore(
                f"{self._registry.where} is {what} that the models here are of, and may not be mounted; what is served "
                f"stays. To follow it all the same, remove {self._own / 'identity'}"
            )

    def adopt(self, models: Collection[str]) -> None:
        """Remembers which store this is, once it has shown models.

        Args:
            models: That it shows.

        Raises:
            OtherStore: It is not known which store the archives here are of, and this one has none.
            StorageAway: It does not answer.
        """
        if self._expected():
            return
        if models:
            if identity := self._registry.identify():
                with written(self._own / "identity") as temporary:
                    temporary.write_text(f"{identity}\n", encoding="ascii")
        elif self._known:
            raise OtherStore(
                f"{self._registry.where} has no models, and here are {len(self._known)} archives of it: it may not be "
                f"mounted, and what is served stays. If it is meant to be empty, empty {self._folder}, too"
            )

    def names(self) -> set[str]:
        """The models that are here."""
        return {file.partition("@")[0].removesuffix(".mar") for file in self._known}

    def file(self, name: str, version: str) -> ModelFile:
        """An archive that is here. Raises NotFound."""
        return self.files.file(f"{name}@{version}")

    def default(self, name: str) -> str:
        """The version that is the default here; "" if none was chosen."""
        try:
            return (self._folder / f"{name}.default").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""

    def sha256(self, name: str, version: StoredVersion) -> str:
        """Of the archive that is here in the place of a version; "" if there is none."""
        return self._known.get(ModelRecord(name).file(version), "")

    def have(self, name: str, version: StoredVersion) -> bool:
        """Whether an archive is here, and whole: it is hashed once for each run of the agent."""
        file = ModelRecord(name).file(version)
        if self._known.get(file) != version.sha256:
            return False
        if file not in self._checked:
            try:
                with (self._folder / file).open("rb") as opened:
                    if hashlib.file_digest(opened, "sha256").hexdigest() != version.sha256:
                        return False
            except FileNotFoundError:
                return False
            self._checked.add(file)
        return (self._folder / file).is_file()

    def fetch(self, name: str, version: StoredVersion) -> None:
        """Fetches an archive that is not here. Raises as `Registry.fetch`; what was here is then still here."""
        path = self._folder / ModelRecord(name).file(version)
        with written(path) as temporary:
            self._registry.fetch(name, version, temporary)
        self._note(path.name, version.sha256)

    def drop(self, file: ModelFile) -> None:
        """Removes an archive."""
        self.files.discard(file)
        self._note(file.path.name, "")

    def _note(self, file: str, sha256: str) -> None:
        known = {**self._known, file: sha256}
        self._known = {name: value for name, value in known.items() if value}
        (self._checked.add if sha256 else self._checked.discard)(file)
        with written(self._own / "fetched.json") as temporary:
            temporary.write_text(json.dumps(self._known, indent=1, sort_keys=True), encoding="utf-8")

    def _expected(self) -> str:
        place = self._own / "identity"
        try:
            return read_identity(place.read_bytes(), str(place))
        except FileNotFoundError:
            return ""
        except StorageAway as error:
            raise OtherStore(
                f"{error}. What is served stays; to follow {self._registry.where}, whichever store it is, remove it"
            ) from error

    def _read(self) -> dict[str, str]:
        try:
            values = json.loads((self._own / "fetched.json").read_text(encoding="utf-8"))
            return {str(name): str(sha256) for name, sha256 in values.items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def _check_ours(self) -> None:
        """What an operator has put here must not be removed because it is not in the other store."""
        source = self._own / "from"
        if source.is_file() and (of := source.read_text(encoding="utf-8").strip()) != self._registry.where:
            raise FailedPrecondition(
                f"store: {self._folder} holds models of {of}; name an empty folder for those of {self._registry.where}",
                field="store",
            )
        if not source.is_file() and (first := next(iter(self.files.all()), None)) is not None:
            raise FailedPrecondition(
                f"store: {first.path} did not come from {self._registry.where}; name an empty folder, which the agent "
                "fills",
                field="store",
            )
        with written(source) as temporary:
            temporary.write_text(f"{self._registry.where}\n", encoding="utf-8")
