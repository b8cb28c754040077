"""What models and their versions may be called, and the order of versions. Without torch: services use it too."""

from __future__ import annotations

import re

from ouzel.errors import InvalidArgument

# What a pool is called in TorchServe, beside models: no model may have such a name.
POOL, POOL_VERSION = "OUZEL-POOL", "1"

# What is at the place of a model in a path of the gateway: GET /v2/models/stats tells of all models.
TAKEN = frozenset({"stats"})

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.]{0,30}")


def check_name(name: str) -> str:
    """The name, if it may be a model's: it becomes a file name and part of a URL. Raises InvalidArgument."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        raise InvalidArgument(
            f"name: {name!r:.80} is not 1 to 63 of a-z 0-9 . _ - that begin with a letter or digit, without ..",
            field="name",
        )
    return name


def check_new_name(name: str) -> str:
    """The name, if a new model may have it. Raises InvalidArgument."""
    if check_name(name) in TAKEN:
        raise InvalidArgument(
            f"name: {name!r} is taken: paths of the gateway have it in the place of a model; choose another name",
            field="name",
        )
    return name


def check_version(version: str) -> str:
    """The version, if it may be a model's. Raises InvalidArgument."""
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise InvalidArgument(f"version: {version!r:.80} is not 1 to 31 letters, digits and dots", field="version")
    return version


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """The key by which versions are sorted: 2 before 10, numbers before words."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in version.split("."))
