"""One archive of a model store, as far as it can be known without torch."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ouzel.errors import FailedPrecondition
from ouzel.model_names import version_key
from ouzel.task_names import CLASSIFICATION, TASKS, Task
from ouzel_protos.zips import DAMAGED

MANIFEST, CARD = "MAR-INF/MANIFEST.json", "model.json"
DAMAGED_MARK = b"OUZEL-DAMAGED "  # begins a file in the place of an archive that cannot be had; then it says why
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
        arch: As of `ouzel.models.build`.
        digest: "sha256:<hex>" of the weights.
        classes: How many.
        lineage: Where a tuned model comes from; None for an operator's.
        task: What the model is for.
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
    task: Task = CLASSIFICATION

    @property
    def owner(self) -> str:
        """Whose tuned model it is; "" for an operator's."""
        return str((self.lineage or {}).get("owner", ""))

    @property
    def job(self) -> str:
        """The job that made it; "" for an operator's."""
        return str((self.lineage or {}).get("job", ""))

    @property
    def publication(self) -> int:
        """Which of the versions that its job has published: 1, or 2 of one that has answered early."""
        number = (self.lineage or {}).get("publication", 1)
        return int(number) if isinstance(number, (int, float)) else 1

    @property
    def held_back(self) -> bool:
        """Whether a gate has refused it as the default. Whoever promotes it overrules the gate."""
        gate = (self.lineage or {}).get("gate")
        return isinstance(gate, Mapping) and gate.get("passed") is False

    def seen_by(self, owner: str | None) -> bool:
        """Whether `owner` may know of it; None may know of all."""
        return owner is None or self.lineage is None or self.owner == owner


def card(path: Path) -> dict[str, Any]:
    """model.json of an archive, as it is. Raises FailedPrecondition."""
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_member(archive, CARD))
    except (*_UNSOUND, OSError) as error:
        raise FailedPrecondition(f"{path}: {_said(error)}") from error


def archives(paths: Iterator[Path] | list[Path]) -> tuple[ModelFile, ...]:
    """Those of the archives that are there, by name and version."""
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
        task = described.get("task", CLASSIFICATION)
        if task not in TASKS:
            raise ValueError(f"its task {task!r:.40} is not one of {', '.join(TASKS)}")
        return ModelFile(name, version, path, size, str(described["arch"]), digest, classes, lineage, task=task)
    except zipfile.BadZipFile as error:
        if (why := _marked(path)) is not None:
            return ModelFile(name, version, path, size, error=why)
        return ModelFile(name, version, path, size, error=f"{path}: is not a sound zip file ({_said(error)})")
    except _UNSOUND as error:
        return ModelFile(name, version, path, size, error=f"{path}: {_said(error)}")


def _marked(path: Path) -> str | None:
    """Why there is no archive, if the file says so."""
    try:
        with path.open("rb") as file:
            content = file.read(1000)
    except OSError:
        return None
    if not content.startswith(DAMAGED_MARK):
        return None
    return content.removeprefix(DAMAGED_MARK).decode(errors="replace")


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    if archive.getinfo(name).file_size > _LARGEST:
        raise ValueError(f"{name} has more than {_LARGEST} bytes")
    try:
        content = archive.read(name)
    except DAMAGED as error:
        raise zipfile.BadZipFile(f"{name}: {_said(error)}") from None
    return json.loads(content)


def _said(error: Exception) -> str:
    return str(error).strip("'\"") or type(error).__name__
