"""The model store: a folder of `NAME.mar` archives. Checked here, for TorchServe's own complaints are hard to read."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ouzel.errors import InvalidArgument, NotFound

_MANIFEST = "MAR-INF/MANIFEST.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # goes into a URL and into TorchServe's list of NAME=FILE


@dataclass(frozen=True)
class Archive:
    """A model that can be served: `name` is the file's name without `.mar`."""

    name: str
    version: str
    path: Path


def archives(store: Path, names: Sequence[str] = ()) -> tuple[Archive, ...]:
    """The named archives of `store`, or all, sorted by name. Raises NotFound or InvalidArgument."""
    if not store.is_dir():
        raise NotFound(f"there is no model store {store}; `ouzel models add` makes one", field="store")
    paths = {path.stem: path for path in sorted(store.glob("*.mar")) if not path.name.startswith(".")}
    if not paths:
        raise NotFound(f"model store {store} holds no model; `ouzel models add` puts one in", field="store")
    for name in names:
        if name not in paths:
            raise NotFound(f"no model {name!r} in {store}; it holds {', '.join(paths)}", field="models")
    return tuple(_archive(paths[name]) for name in sorted(set(names) or paths))


def _archive(path: Path) -> Archive:
    if not _NAME.fullmatch(path.stem):
        raise InvalidArgument(
            f"{path} cannot be served: a model's name has only letters, digits, '.', '_', '-'", field="models"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            if unsafe := next(filter(_leaves, archive.namelist()), None):
                raise ValueError(f"member {unsafe!r} would leave its folder")
            if broken := archive.testzip():
                raise ValueError(f"checksum of {broken!r} is wrong")
            version = json.loads(archive.read(_MANIFEST))["model"]["modelVersion"]
    # zipfile raises NotImplementedError and RuntimeError for compressions and encryption that it does not know
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError, RuntimeError) as error:
        reason = str(error).strip("'\"") or type(error).__name__
        raise InvalidArgument(f"{path} is not a model archive: {reason}", field="models") from error
    return Archive(path.stem, str(version), path)


def _leaves(member: str) -> bool:
    """Whether unpacking `member` would write outside of its folder (TorchServe's own check has a gap)."""
    return member.startswith("/") or "\\" in member or ".." in PurePosixPath(member).parts
