"""A folder of model archives: `<name>.mar` those of the operator, `<name>@<version>.mar` those of tuned models."""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ouzel.errors import AlreadyExists, FailedPrecondition, NotFound
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.model_names import check_name
from ouzel.models import archive
from ouzel.models.card import Card
from ouzel.models.model import Model, load
from ouzel.models.networks.probe import Layer, layers
from ouzel.registry.mirror import Mirror, VersionTaken
from ouzel.task_names import CLASSIFICATION, Task

Make = Callable[[str], tuple[Card, Mapping[str, Tensor]]]  # of the version that it will have: the card and the weights


@dataclass(frozen=True)
class Entry:
    """One archive: `size` in bytes; `error` says why it cannot be used, what could not be read is then empty.

    lineage: of a tuned model, see `Card`. is_default: whether `find(name)` is this version.
    """

    name: str
    size: int
    version: str = ""
    arch: str = ""
    digest: str = ""
    classes: int = 0
    error: str = ""
    lineage: Mapping[str, Any] | None = None
    is_default: bool = False
    task: Task = CLASSIFICATION


@dataclass(frozen=True)
class Details:
    """An archive that has been loaded.

    Attributes:
        entry: Of the archive.
        card: Its model.json.
        layers: With the shapes that they give for one image.
        model: As it was loaded.
    """

    entry: Entry
    card: Mapping[str, Any]
    layers: tuple[Layer, ...]
    model: Model = field(repr=False)


class ModelStore(ModelFiles):
    """The archives in `folder`. "name" is a model's default version, "name@2" its version 2.

    Names with a path in them are refused by every method: InvalidArgument.
    """

    def __init__(self, folder: str | Path, mirror: Mirror | None = None) -> None:
        super().__init__(folder, mirror)

    def list(self) -> tuple[Entry, ...]:
        """All archives by name and version; those that are damaged are listed with their `error`.

        A missing folder is empty.
        """
        return self._entries(self.all())

    def versions(self, name: str) -> tuple[Entry, ...]:
        """Of one model, lowest first. Raises NotFound."""
        self.file(name)
        return self._entries(self.of(name))

    def show(self, name: str) -> Details:
        """Load a model and probe its layers. Raises NotFound or FailedPrecondition."""
        file = self.file(name)
        model = load(file.path)
        seen = layers(model.network, torch.zeros(1, *model.input_shape))
        return Details(self._entries([file])[0], model.card, seen, model)

    def publish(self, name: str, make: Make, job: str, *, publication: int = 1, after: str = "") -> Entry:
        """Add the model that `make` gives as the next version of `name`; once for a job, however often it is called.

        The card's name, version and lineage["job"] are set here; its lineage["owner"] says whose the model is. The
        archive is there whole or not at all. A job that publishes twice says which `publication` this is, and which
        version it has to be `after`, though that may be deleted by now. Raises AlreadyExists for the name of an
        operator's model or of somebody else's, and FailedPrecondition for a store that cannot be written.
        """
        while True:
            with suppress(VersionTaken), self.locked(check_name(name)):
                return self._published(name, make, job, publication, after)

    def _published(self, name: str, make: Make, job: str, publication: int, after: str) -> Entry:
        files = self.of(name)
        mine = (file for file in files if file.job == job and file.publication == publication)
        if (done := next(mine, None)) is not None:
            return self._entries([done])[0]
        _check_free(name, files)
        self._tidy(name)
        version = str(max((int(each) for each in (*_versions(files), after) if each.isdigit()), default=0) + 1)
        card, state = make(version)
        lineage = {**(card.lineage or {}), "job": job} | ({"publication": publication} if publication > 1 else {})
        _check_free(name, files, str(lineage.get("owner", "")))
        card = dataclasses.replace(card, name=name, version=version, lineage=lineage)
        with self.writing():
            self.add(name, version, lambda path: archive.write(card, state, path, replace=False))
        return self._entries([self.file(f"{name}@{version}")])[0]

    def _tidy(self, name: str) -> None:
        """Remove what processes have left that were killed while they wrote."""
        with self.writing():
            for left in self.folder.glob(f".{name}@*.mar.*"):
                left.unlink(missing_ok=True)

    def _entries(self, files: builtins.list[ModelFile] | tuple[ModelFile, ...]) -> tuple[Entry, ...]:
        defaults = {file.path for file in self.defaults().values()}
        return tuple(_entry(file, file.path in defaults) for file in files)


def _versions(files: tuple[ModelFile, ...]) -> builtins.list[str]:
    return [file.version for file in files]


def _check_free(name: str, files: tuple[ModelFile, ...], owner: str | None = None) -> None:
    """Raises AlreadyExists if the name is not for tuned models, or not for those of `owner`."""
    for file in files:
        if file.lineage is None:
            what = "damaged" if file.error else "the operator's"
            raise AlreadyExists(f"name: there is a model {name!r} that is {what}; choose another name", field="name")
        if not file.seen_by(owner):
            raise AlreadyExists(f"name: {name!r} is taken by somebody else's model; choose another name", field="name")


def _entry(file: ModelFile, is_default: bool) -> Entry:
    known = Entry(file.name, file.size, file.version, is_default=is_default)
    try:
        card, _ = archive.read_card(file.path)
    except (FailedPrecondition, NotFound) as error:
        return dataclasses.replace(known, error=str(error))
    if file.error:
        return dataclasses.replace(known, error=file.error)
    return dataclasses.replace(
        known, arch=card.arch, digest=card.digest, classes=len(card.labels), lineage=card.lineage, task=card.task
    )
