"""Which versions of a model stay loaded in a TorchServe that runs. Its start records the rule for all who publish."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ouzel.errors import OuzelError
from ouzel.model_files import ModelFiles
from ouzel.torchserve.management import Settings, default_of, unregister, versions
from ouzel.torchserve.server import Server

logger = logging.getLogger(__name__)
FILE = "loading.json"  # beside the key file


def record(key_file: Path, loaded_versions: int, settings: Settings) -> None:
    """Records how many versions of each model stay loaded, and how a model is served by default.

    Args:
        key_file: The file with TorchServe's tokens; the record is written beside it.
        loaded_versions: Versions of each model.
        settings: For a model that says nothing else.
    """
    content = {"loaded_versions": loaded_versions, "settings": asdict(settings)}
    key_file.with_name(FILE).write_text(json.dumps(content), encoding="ascii")


def most_of(server: Server) -> int | None:
    """How many versions of each model stay loaded; None if nothing is recorded."""
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
    """Unloads versions of a model beyond those that stay: the default one and the newest others.

    What cannot be unloaded stays, and is logged.

    Args:
        server: TorchServe.
        store: The model store.
        name: The model's name.
        spare: Versions that callers may still use. They stay until the next time.

    Returns:
        The versions that were unloaded.
    """
    most = most_of(server)
    if most is None:
        return ()
    gone = []
    try:
        loaded = {str(description["modelVersion"]) for description in versions(server, name)}
        files = tuple(file for file in store.of(name) if file.version in loaded)
        kept = {file.version for file in store.kept(files, most)} if files else loaded
        for version in sorted(loaded - kept - {*spare, default_of(server, name)}):
            unregister(server, name, version)
            gone.append(version)
            logger.info("unloaded %s %s", name, version)
    except OuzelError as error:
        logger.warning("older versions of %s stay loaded: %s", name, error)
    return tuple(gone)
