"""The models that jobs can be about, as far as one can know them without torch."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ouzel
from ouzel.errors import FailedPrecondition, NotFound, Unavailable
from ouzel.names import did_you_mean

_log = logging.getLogger(__name__)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_SECONDS = 300  # a model must load in this time


@dataclass(frozen=True)
class Range:
    """What a parameter of a recipe may be."""

    whole: bool
    least: float
    most: float


@dataclass(frozen=True)
class Model:
    """input: (C, H, W). layers: the shape of what each puts out for one image. recipes: parameters by recipe.
    steps: of each recipe, unless told otherwise.
    """

    name: str
    digest: str
    input: tuple[int, ...]
    labels: tuple[str, ...]
    layers: Mapping[str, tuple[int, ...]]
    recipes: Mapping[str, Mapping[str, Range]]
    steps: Mapping[str, int]


@dataclass(frozen=True)
class Budget:
    """What one job may cost. values: images x channels x height x width x steps, counted as the pixels' values that are
    computed. top_k: hits per target of a search.
    """

    values: int = 10**12
    targets: int = 256
    top_k: int = 1000


@dataclass
class Catalogue:
    """folder: the model store. cache: a folder for what was found out. datasets: folders by the name for callers."""

    folder: Path
    cache: Path
    datasets: Mapping[str, Path] = field(default_factory=dict)
    budget: Budget = Budget()

    def __post_init__(self) -> None:
        self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known: dict[str, Model] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.mar") if not path.name.startswith("."))

    def model(self, name: str, field: str = "model") -> Model:
        """Takes seconds for a model that is new. Raises NotFound, FailedPrecondition (damaged) or Unavailable."""
        path = self.folder / f"{name}.mar"
        if not _NAME.fullmatch(name) or ".." in name or not path.is_file():
            held = ", ".join(self.names()) or "nothing"
            hint = did_you_mean(name, self.names())
            raise NotFound(f"{field}: no model {name!r:.80}{hint}; there is {held:.400}", field=field)
        status = path.stat()
        key = hashlib.sha256(
            f"{path.absolute()} {status.st_size} {status.st_mtime_ns} {ouzel.__version__}".encode()
        ).hexdigest()
        if key not in self._known:
            with self._lock:  # one at a time: it takes memory
                if key not in self._known:
                    self._known[key] = _model(self._content(path, key), field)
        return self._known[key]

    def warm(self) -> None:
        """Look at all models before anybody asks."""
        for name in self.names():
            try:
                self.model(name)
            except (NotFound, FailedPrecondition, Unavailable) as error:
                _log.warning("%s: %s", name, error)

    def _content(self, path: Path, key: str) -> dict[str, Any]:
        cached = self.cache / f"{key}.json"
        try:
            found = json.loads(cached.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = _described(path)
            partial = cached.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(found), encoding="utf-8")
            partial.replace(cached)
        return dict(found)


def _described(path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "ouzel.worker.describe", str(path)]
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors)  # ends when its input closes
        timer = threading.Timer(_SECONDS, process.kill)
        timer.start()
        try:
            assert process.stdout
            printed = process.stdout.read()
        finally:
            timer.cancel()
            process.kill()
            process.communicate()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if not printed:
        _log.error("%s cannot be described:\n%s", path, said[-4000:])
        raise Unavailable(f"model: {path.stem} could not be loaded; the worker's log says why", field="model")
    return dict(json.loads(printed))


def _model(content: Mapping[str, Any], field: str) -> Model:
    if "error" in content:
        raise FailedPrecondition(f"{field}: {content['error']}", field=field)
    recipes = {
        name: {key: Range(**value) for key, value in parameters.items()}
        for name, parameters in content["recipes"].items()
    }
    layers = {name: _shape(shape) for name, shape in content["layers"].items()}
    return Model(
        content["name"],
        content["digest"],
        _shape(content["input"]),
        tuple(content["labels"]),
        layers,
        recipes,
        content["steps"],
    )


def _shape(values: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
