"""The archives that TorchServe is to serve. Checked here, for TorchServe's own complaints are hard to read."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ouzel.errors import InvalidArgument, NotFound
from ouzel.model_files import MANIFEST, ModelFiles

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # goes into a URL and into TorchServe's list of NAME=FILE
_STEM = re.compile(r"[^@]*(@[0-9A-Za-z.]+)?")


@dataclass(frozen=True)
class Archive:
    """A version of a model that can be served."""

    name: str
    version: str
    path: Path


def archives(store: Path, names: Sequence[str] = ()) -> tuple[Archive, ...]:
    """All versions of the named models of `store`, or of all: by name, the default first, then lowest first.

    Raises NotFound or InvalidArgument.
    """
    if not store.is_dir():
        raise NotFound(f"there is no model store {store}; `ouzel models add` makes one", field="store")
    files = ModelFiles(store)
    defaults = files.defaults()
    if not defaults:
        raise NotFound(f"model store {store} holds no model; `ouzel models add` puts one in", field="store")
    for name in names:
        if name not in defaults:
            raise NotFound(f"no model {name!r} in {store}; it holds {', '.join(defaults)}", field="models")
    wanted = [file for file in files.all() if file.name in (names or defaults)]
    wanted.sort(key=lambda file: (file.name, file != defaults[file.name]))  # keeps the order of the others
    found = tuple(check(file.name, file.path) for file in wanted)
    _check_versions(found)
    return found


def _check_versions(found: Sequence[Archive]) -> None:
    seen: dict[tuple[str, str], Path] = {}
    for archive in found:
        if (other := seen.setdefault((archive.name, archive.version), archive.path)) != archive.path:
            raise InvalidArgument(
                f"{other} and {archive.path} are both version {archive.version} of {archive.name}", field="models"
            )


def check(name: str, path: Path) -> Archive:
    """The archive of a version of the model `name`, if TorchServe can take it. Raises InvalidArgument."""
    if not _NAME.fullmatch(name) or not _STEM.fullmatch(path.stem):
        raise InvalidArgument(
            f"{path} cannot be served: a model's name has only letters, digits, '.', '_', '-'", field="models"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            if unsafe := next(filter(_leaves, archive.namelist()), None):
                raise ValueError(f"member {unsafe!r} would leave its folder")
            if broken := archive.testzip():
                raise ValueError(f"checksum of {broken!r} is wrong")
            version = json.loads(archive.read(MANIFEST))["model"]["modelVersion"]
    # zipfile raises NotImplementedError and RuntimeError for compressions and encryption that it does not know
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError, RuntimeError) as error:
        reason = str(error).strip("'\"") or type(error).__name__
        raise InvalidArgument(f"{path} is not a model archive: {reason}", field="models") from error
    if path.stem not in (name, f"{name}@{version}"):
        raise InvalidArgument(f"{path} is not a model archive: its manifest says version {version}", field="models")
    return Archive(name, str(version), path)


def _leaves(member: str) -> bool:
    """Whether unpacking `member` would write outside of its folder (TorchServe's own check has a gap)."""
    return member.startswith("/") or "\\" in member or ".." in PurePosixPath(member).parts
