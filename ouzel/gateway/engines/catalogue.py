"""What the archives of a model store say of their models, looked up again when it may have changed. Without torch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ouzel.errors import FailedPrecondition, NotFound
from ouzel.gateway.engine import Description
from ouzel.model_file import ModelFile, card
from ouzel.model_files import ModelFiles
from ouzel.model_names import version_key
from ouzel_protos.text import shown

_log = logging.getLogger(__name__)
_MOST_DESCRIBED = 1024


@dataclass(frozen=True)
class Listed:
    """The versions of one model.

    Attributes:
        default: The version for callers who name none; "" if there is none.
        files: Archives by version.
    """

    default: str
    files: Mapping[str, ModelFile]


class Catalogue:
    """The models of a store.

    Args:
        folder: The store.
        seconds: For which a look holds.

    Attributes:
        folder: The store.
    """

    def __init__(self, folder: Path, seconds: float = 1.0) -> None:
        self.folder = folder
        self._store, self._seconds = ModelFiles(folder), seconds
        self._models: Mapping[str, Listed] = {}
        self._until = -1.0
        self._looking: asyncio.Task[None] | None = None
        self._described: dict[tuple[Path, str, tuple[str, ...]], Description] = {}

    async def models(self) -> Mapping[str, Listed]:
        """By name. The first caller waits for the look; later ones get the last one while a new one is made."""
        if time.monotonic() >= self._until:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
            if self._until < 0:
                await asyncio.shield(self._looking)
        return self._models

    async def look(self) -> None:
        """Looks again, and returns when that is done."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        await asyncio.shield(self._looking)

    async def file(self, model: str, version: str) -> ModelFile:
        """The archive of a version; "" is the default. Raises NotFound, which tells nothing of other models."""
        return pick(model, version, await self.models())

    async def describe(self, model: str, version: str, platform: str) -> Description:
        """What is known of a version; "" is the default. Raises NotFound or FailedPrecondition."""
        models = await self.models()
        file = pick(model, version, models)
        versions = tuple(sorted(models[model].files, key=version_key))
        key = (file.path, file.digest, versions)
        if (known := self._described.get(key)) is None:
            known = await asyncio.to_thread(_described, file, versions, platform)
            if len(self._described) >= _MOST_DESCRIBED:
                self._described.clear()
            self._described[key] = known
        return known

    async def _look(self) -> None:
        try:
            self._models = await asyncio.to_thread(self._listed)
            self._until = time.monotonic() + self._seconds
        except OSError as error:
            _log.warning("the model store %s cannot be read: %s", self._store.folder, error)
            self._until = time.monotonic() + self._seconds
        finally:
            self._looking = None

    def _listed(self) -> dict[str, Listed]:
        files: dict[str, dict[str, ModelFile]] = {}
        for file in self._store.all():
            if not file.error:
                files.setdefault(file.name, {})[file.version] = file
        defaults = {name: file.version for name, file in self._store.defaults().items()}
        return {name: Listed(defaults.get(name, ""), versions) for name, versions in files.items()}


def pick(model: str, version: str, models: Mapping[str, Listed]) -> ModelFile:
    """The archive of a version among those that are listed; "" is the default. Raises NotFound."""
    listed = models.get(model)
    if listed is None:
        raise NotFound(f"model: {shown(model, 80)} is not served here", field="model")
    if not version and not listed.default:
        raise NotFound(f"version: {model!r} has no default version; name one of {_told(listed)}", field="version")
    file = listed.files.get(version or listed.default)
    if file is None:
        raise NotFound(
            f"version: {shown(version, 40)} of {model!r} is not served; there are {_told(listed)}", field="version"
        )
    return file


def _told(listed: Listed) -> str:
    return ", ".join(sorted(listed.files, key=version_key)[:20])


def _described(file: ModelFile, versions: tuple[str, ...], platform: str) -> Description:
    values = card(file.path)
    try:
        preprocessing = values["preprocessing"]
        height, width = (int(edge) for edge in preprocessing["input_size"])
        labels = tuple(str(label) for label in values["labels"])
        shape = (int(values["in_channels"]), height, width)
    except (KeyError, TypeError, ValueError) as error:
        raise FailedPrecondition(f"model: the archive of {file.name!r} cannot be read ({error})") from None
    return Description(file.name, file.version, versions, labels, shape, platform, file.task)
