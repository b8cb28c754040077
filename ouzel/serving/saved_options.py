"""The options of the services that run, with which a part is started again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ouzel.errors import OuzelError
from ouzel.serving import state_folder
from ouzel.serving.door_options import DoorOptions
from ouzel.serving.options import Ports, ServingOptions
from ouzel_protos.local import OPTIONS


def write(options: ServingOptions) -> None:
    """Keeps options in the state folder."""
    values = dataclasses.asdict(options)
    state_folder.write(options.state, OPTIONS, {key: _plain(value) for key, value in values.items()})


def read(state: Path) -> ServingOptions | None:
    """The options that were kept.

    Args:
        state: The state folder.

    Returns:
        The options that this version knows; None if the file is missing or cannot be used.
    """
    saved = state_folder.read(state, OPTIONS)
    if saved is None:
        return None
    known = {each.name for each in dataclasses.fields(ServingOptions)}
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in saved.items() if key in known
    }
    try:
        door = DoorOptions(**(saved.get("door") or {}))
        return ServingOptions(**(values | {"state": state, "ports": Ports(**saved["ports"]), "door": door}))
    except (OuzelError, KeyError, TypeError):
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return str(value) if isinstance(value, Path) else value
