"""A folder of model archives, `<name>.mar` each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ouzel.errors import FailedPrecondition, NotFound
from ouzel.models import archive
from ouzel.models.card import check_name
from ouzel.models.model import load
from ouzel.models.probe import Layer, layers


@dataclass(frozen=True)
class Entry:
    """One archive: `size` in bytes; `error` says why it cannot be used, all but `name` and `size` are then empty."""

    name: str
    size: int
    version: str = ""
    arch: str = ""
    digest: str = ""
    classes: int = 0
    error: str = ""


@dataclass(frozen=True)
class Details:
    """An archive that has been loaded: `card` is its model.json, `layers` have the shapes they give for one image."""

    entry: Entry
    card: Mapping[str, Any]
    layers: tuple[Layer, ...]


class ModelStore:
    """The archives in `folder`. Names with a path in them are refused by every method: InvalidArgument."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def list(self) -> tuple[Entry, ...]:
        """All archives by name; those that are damaged are listed with their `error`. A missing folder is empty."""
        paths = sorted(path for path in self.folder.glob("*.mar") if not path.name.startswith("."))
        return tuple(_entry(path) for path in paths)

    def show(self, name: str) -> Details:
        """Load a model and probe its layers. Raises NotFound or FailedPrecondition."""
        path = self.find(name)
        model = load(path)
        seen = layers(model.network, torch.zeros(1, *model.input_shape))
        return Details(_entry(path), model.card, seen)

    def remove(self, name: str) -> None:
        """Delete an archive, a damaged one too. Raises NotFound."""
        self.find(name).unlink()

    def find(self, name: str) -> Path:
        """The archive of the model `name`. Raises NotFound."""
        path = self.folder / f"{check_name(name)}.mar"
        if not path.is_file():
            held = ", ".join(entry.name for entry in self.list()) or "nothing"
            raise NotFound(f"name: no model {name!r} in {self.folder}, which holds {held}", field="name")
        return path


def _entry(path: Path) -> Entry:
    size = path.stat().st_size
    try:
        card, _ = archive.read_card(path)
    except (FailedPrecondition, NotFound) as error:
        return Entry(path.stem, size, error=str(error))
    return Entry(path.stem, size, card.version, card.arch, card.digest, len(card.labels))
