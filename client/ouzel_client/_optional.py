"""Packages that only some features need, imported when a feature is used."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from ouzel_client.errors import ConfigurationError


def need_pillow(purpose: str) -> tuple[Any, Any]:
    """(PIL.Image, PIL.ImageOps). Raises ConfigurationError that says how to install it."""
    return _need("PIL.Image", purpose, "images"), _need("PIL.ImageOps", purpose, "images")


def need_rich(module: str, purpose: str) -> Any:
    """A module of rich. Raises ConfigurationError that says how to install it."""
    return _need(f"rich.{module}", purpose, "cli")


def has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None


def has_pillow() -> bool:
    return importlib.util.find_spec("PIL") is not None


def _need(module: str, purpose: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{purpose} needs the package {module.partition('.')[0]}: pip install 'ouzel-client[{extra}]'"
        ) from error
