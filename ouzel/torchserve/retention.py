"""Which versions of a model stay loaded in a TorchServe that runs, as its start has laid down for all who publish."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ouzel.errors import OuzelError
from ouzel.model_files import ModelFiles
from ouzel.torchserve.management import Server, Settings, default_of, unregister, versions

logger = logging.getLogger(__name__)
FILE = "loading.json"  # beside the key file


def record(key_file: Path, loaded_versions: int, settings: Settings) -> None:
    """Lay down how many versions of each model stay loaded, and how a model is served that says nothing else."""
    content = {"loaded_versions": loaded_versions, "settings": asdict(settings)}
    key_file.with_name(FILE).write_text(json.dumps(content), encoding="ascii")


def most_of(server: Server) -> int | None:
    """How many versions of each model stay loaded; None if nothing is laid down."""
    try:
        return int(_read(server)["loaded_versions"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def usual_settings(server: Server) -> Settings:
    """How a model is served that says nothing else."""
    try:
        return Settings(**_read(server)["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return Settings()


def _read(server: Server) -> dict[str, Any]:
    return dict(json.loads(server.key_file.with_name(FILE).read_text(encoding="ascii")))


def trim(server: Server, store: ModelFiles, name: str, *, spare: Collection[str] = ()) -> tuple[str, ...]:
    """Unload versions of a model beyond those that stay: the default one and the newest others. Returns which.

    spare: versions that callers may still be on, left for the next time. What cannot be unloaded stays.
    """
    most = most_of(server)
    if most is None:
        return ()
    gone = []
    try:
        loaded = {str(found["modelVersion"]) for found in versions(server, name)}
        files = tuple(file for file in store.of(name) if file.version in loaded)
        kept = {file.version for file in store.kept(files, most)} if files else loaded
        for version in sorted(loaded - kept - {*spare, default_of(server, name)}):
            unregister(server, name, version)
            gone.append(version)
            logger.info("unloaded %s %s", name, version)
    except OuzelError as error:
        logger.warning("older versions of %s stay loaded: %s", name, error)
    return tuple(gone)
