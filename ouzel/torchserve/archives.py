"""The archives that TorchServe is to serve.

They are checked here, because TorchServe's own messages about bad archives are hard to read.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath

from ouzel.errors import InvalidArgument, NotFound
from ouzel.model_files import MANIFEST, ModelFile, ModelFiles
from ouzel.model_names import POOL
from ouzel_protos.zips import DAMAGED

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # goes into a URL and into TorchServe's list of NAME=FILE
_STEM = re.compile(r"[^@]*(@[0-9A-Za-z.]+)?")


@dataclass(frozen=True)
class Archive:
    """A version of a model that can be served.

    Attributes:
        name: The model's name.
        version: As its manifest says.
        path: The archive, or a folder as it would be unpacked.
        handler: The file in it that TorchServe runs.
    """

    name: str
    version: str
    path: Path
    handler: str = field(default="", compare=False)

    @property
    def url(self) -> str:
        """By which TorchServe takes it: an archive of its model store goes by its file name."""
        return str(self.path) if self.path.is_dir() else self.path.name


def archives(store: Path, names: Sequence[str] = (), most: int | None = None) -> tuple[Archive, ...]:
    """The archives of a model store that are to be loaded.

    Args:
        store: The model store.
        names: The models; empty means all.
        most: Versions of each model at most: the default one and the newest of the others. The rest is not looked at.

    Returns:
        By name; of each model the default version first, then the others, lowest first.

    Raises:
        NotFound: The store is missing or empty, or has no such model.
        InvalidArgument: An archive cannot be served.
    """
    files = _files(store, names)
    groups = [tuple(group) for _, group in groupby(files.all(), key=lambda file: file.name)]
    groups = [group for group in groups if not names or group[0].name in names]
    for group in groups:
        _check_versions(group)
    return tuple(check(file.name, file.path) for group in groups for file in files.kept(group, most or len(group)))


def unloaded(store: Path, names: Sequence[str], loaded: Sequence[Archive]) -> tuple[tuple[str, str], ...]:
    """The versions that stay in the store without being loaded.

    Args:
        store: The model store.
        names: The models; empty means all.
        loaded: What `archives` gave.

    Returns:
        (name, version) of each.
    """
    known = {archive.path for archive in loaded}
    files = _files(store, names).all()
    return tuple((f.name, f.version) for f in files if f.path not in known and (not names or f.name in names))


def check_store(store: Path) -> None:
    """Raises NotFound if the model store is missing or empty."""
    _files(store, ())


def _files(store: Path, names: Sequence[str]) -> ModelFiles:
    """Of the store, which holds models, those named among them."""
    if not store.is_dir():
        raise NotFound(f"there is no model store {store}; `ouzel models add` makes one", field="store")
    files = ModelFiles(store)
    defaults = files.defaults()
    if not defaults:
        raise NotFound(f"model store {store} holds no model; `ouzel models add` puts one in", field="store")
    for name in names:
        if name not in defaults:
            raise NotFound(f"no model {name!r} in {store}; it holds {', '.join(defaults)}", field="models")
    return files


def _check_versions(files: Sequence[ModelFile]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        if file.version and (other := seen.setdefault(file.version, file.path)) != file.path:
            raise InvalidArgument(
                f"{other} and {file.path} are both version {file.version} of {file.name}", field="models"
            )


def check(name: str, path: Path) -> Archive:
    """Checks that TorchServe can take an archive.

    Args:
        name: The model that it is a version of.
        path: The archive.

    Returns:
        The archive with its version.

    Raises:
        InvalidArgument: It is damaged, or its name or one of its members is not allowed.
    """
    if name == POOL:
        raise InvalidArgument(f"{path} cannot be served: {POOL} is the name of the pool", field="models")
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
            described = json.loads(archive.read(MANIFEST))["model"]
            version, handler = described["modelVersion"], described.get("handler", "")
    except FileNotFoundError:
        raise
    except (*DAMAGED, KeyError, TypeError) as error:
        reason = str(error).strip("'\"") or type(error).__name__
        raise InvalidArgument(f"{path} is not a model archive: {reason}", field="models") from error
    if path.stem not in (name, f"{name}@{version}"):
        raise InvalidArgument(f"{path} is not a model archive: its manifest says version {version}", field="models")
    return Archive(name, str(version), path, str(handler))


def _leaves(member: str) -> bool:
    """Whether unpacking `member` would write outside of its folder (TorchServe's own check has a gap)."""
    return member.startswith("/") or "\\" in member or ".." in PurePosixPath(member).parts
