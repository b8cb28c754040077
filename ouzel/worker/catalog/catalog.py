"""The models that jobs can be about, as far as one can know them without torch."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ouzel
from ouzel.buckets import StorageAway
from ouzel.checks import did_you_mean
from ouzel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.model_names import check_new_name
from ouzel.task_names import CLASSIFICATION, Task, kind_of, need_task
from ouzel.worker.datasets.store import Datasets
from ouzel.worker.isolated import Isolated

_log = logging.getLogger(__name__)
_FORM = 4  # of what is remembered
_SECONDS = 300  # a model must load in this time


@dataclass(frozen=True)
class Model:
    """What the service knows of a model.

    Attributes:
        name: As its archive says.
        digest: Of its weights, "sha256:...".
        input: Shape of one image, (C, H, W).
        labels: Of its classes.
        layers: For each layer with one output, the shape of what it puts out for one image.
        task: What the model is for.
    """

    name: str
    digest: str
    input: tuple[int, ...]
    labels: tuple[str, ...]
    layers: Mapping[str, tuple[int, ...]]
    task: Task = CLASSIFICATION

    def need(self, task: Task, what: str, field: str) -> None:
        """Refuses a model of another task. Arguments and errors as those of `need_task`."""
        need_task(self.task, task, what, self.name, field)


@dataclass(frozen=True)
class Budget:
    """What one job may cost.

    Attributes:
        values: Images x channels x height x width x steps: the pixel values that are computed.
        targets: Nodes of one job.
        top_k: Hits per node of a search.
    """

    values: int = 10**12
    targets: int = 256
    top_k: int = 1000


@dataclass
class Catalogue:
    """The models of a store, as far as the service knows them without torch.

    Attributes:
        folder: The model store.
        cache: Folder for what was found out about models.
        datasets: Folders that callers may search, by the name that they use.
        budget: What one job may cost.
        owner: Who looks, and sees no tuned models of others; None sees all.
        may_name: Whether who looks may hear of a name that was not asked for.
        uploads: The data sets of callers.
        schemes: Schemes of URIs that callers may name as data sets.
        endpoints: Names of the services that callers may have audited.
        isolated: Asks about models.
        files: The model store, where it follows a bucket; None is the folder.
    """

    folder: Path
    cache: Path
    datasets: Mapping[str, Path] = field(default_factory=dict)
    budget: Budget = Budget()
    owner: str | None = None
    may_name: Callable[[str], bool] = lambda _name: True
    uploads: Datasets | None = None
    schemes: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()
    isolated: Isolated = field(default_factory=Isolated)
    files: ModelFiles = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.files = self.files or ModelFiles(self.folder)
        self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known: dict[str, Model] = {}
        self._lock = threading.Lock()

    def seen_by(self, owner: str, may_name: Callable[[str], bool] = lambda _name: True) -> Catalogue:
        """The same catalogue without the tuned models of other owners. Both share what was found out.

        Args:
            owner: Who looks.
            may_name: Whether a name may be told that was not asked for.
        """
        view = copy.copy(self)
        view.owner, view.may_name = owner, may_name
        return view

    def names(self) -> list[str]:
        """What a field `model` takes: each name with a default, "NAME@VERSION" of those with several or without."""
        references: dict[str, list[str]] = {}
        for file in self.files.all():
            if file.seen_by(self.owner) and self.may_name(file.name):
                references.setdefault(file.name, []).append(f"{file.name}@{file.version}")
        defaults = self.files.defaults()
        several = {
            name: versions if len(versions) > 1 or name not in defaults else [] for name, versions in references.items()
        }
        return [
            each for name, versions in several.items() for each in (*([name] if name in defaults else []), *versions)
        ]

    def file(self, name: str, field: str = "model") -> ModelFile:
        """The archive of a model.

        Args:
            name: "NAME" for the default version, or "NAME@VERSION".
            field: Of the request, for the error.

        Raises:
            NotFound: The model does not exist, or the owner may not see it.
        """
        try:
            file = self.files.file(name)
        except (NotFound, InvalidArgument):
            file = None
        if file is None or not file.seen_by(self.owner):
            held = ", ".join(self.names()) or "nothing"
            hint = did_you_mean(name, self.names())
            raise NotFound(f"{field}: no model {name!r:.80}{hint}; there is {held:.400}", field=field)
        return file

    def model(self, name: str, field: str = "model") -> Model:
        """What is known of a model. Takes seconds for a new archive.

        Args:
            name: "NAME" for the default version, or "NAME@VERSION".
            field: Of the request, for the error.

        Raises:
            NotFound: The model does not exist, or the owner may not see it.
            FailedPrecondition: The archive is damaged.
            Unavailable: It could not be loaded.
        """
        file = self.file(name, field)
        if file.error:  # known without torch, which would have to be loaded to say the same
            raise FailedPrecondition(f"{field}: {file.error}", field=field)
        path = file.path
        try:
            status = path.stat()
        except FileNotFoundError:
            raise NotFound(f"{field}: {name!r} was removed just now", field=field) from None
        key = hashlib.sha256(
            f"{_FORM} {path.absolute()} {status.st_size} {status.st_mtime_ns} {ouzel.__version__}".encode()
        ).hexdigest()
        if key not in self._known:
            with self._lock:  # one at a time: it takes memory
                if key not in self._known:
                    self._known[key] = _model(self._content(path, key), field)
        return self._known[key]

    def check_new_name(self, name: str, task: Task = CLASSIFICATION) -> None:
        """Checks that the owner may tune a model of this name.

        Args:
            name: Of the new model.
            task: What the new model is for: all versions of a model are for the same.

        Raises:
            InvalidArgument: It cannot be a name.
            AlreadyExists: It is the name of somebody else's model, or of one for another task.
        """
        check_new_name(name)
        for file in self.files.of(name):
            if file.lineage is None or not file.seen_by(self.owner):
                whose = "the operator's" if file.lineage is None else "somebody else's"
                raise AlreadyExists(f"name: {name!r} is {whose} model; choose another name", field="name")
            if file.task != task and not file.error:
                raise AlreadyExists(f"name: {name!r} is {kind_of(file.task)}; choose another name", field="name")

    def warm(self) -> None:
        """Looks at all models before the first request."""
        try:
            names = self.names()
        except StorageAway as error:
            _log.warning("the models are looked at when they are asked for: %s", error)
            return
        for name in names:
            try:
                self.model(name)
            except (NotFound, FailedPrecondition, Unavailable, StorageAway) as error:
                _log.warning("%s: %s", name, error)

    def _content(self, path: Path, key: str) -> dict[str, Any]:
        cached = self.cache / f"{key}.json"
        try:
            description = json.loads(cached.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            description = self._described(path)
            partial = cached.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(description), encoding="utf-8")
            partial.replace(cached)
        return dict(description)

    def _described(self, path: Path) -> dict[str, Any]:
        printed = self.isolated.ask("ouzel.worker.catalog.describe", str(path), seconds=_SECONDS)
        if not printed:
            raise Unavailable(f"model: {path.stem} could not be loaded; the worker's log says why", field="model")
        return dict(json.loads(printed))


def _model(content: Mapping[str, Any], field: str) -> Model:
    if "error" in content:
        raise FailedPrecondition(f"{field}: {content['error']}", field=field)
    layers = {name: _shape(shape) for name, shape in content["layers"].items()}
    shape, labels = _shape(content["input"]), tuple(content["labels"])
    return Model(content["name"], content["digest"], shape, labels, layers, content["task"])


def _shape(values: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
