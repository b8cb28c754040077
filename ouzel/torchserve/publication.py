"""Tuned models come into a TorchServe that runs, and go, together with the store's idea of them.

No torch, and nothing of starting services: the processes of jobs and the worker itself use this.
"""

from __future__ import annotations

import contextlib

from ouzel.errors import FailedPrecondition, NotFound, OuzelError
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.torchserve import retention
from ouzel.torchserve.archives import check
from ouzel.torchserve.errors import PublicationFailed, ServerUnreachable
from ouzel.torchserve.management import (
    Server,
    Settings,
    default_of,
    expected,
    forget,
    register,
    served,
    set_default,
    settings_of,
    smoke,
    unregister,
    versions,
    workers_of,
)

__all__ = [
    "PublicationFailed",
    "Server",
    "ServerUnreachable",
    "Settings",
    "default_of",
    "expected",
    "load_served",
    "promote_served",
    "publish_served",
    "register",
    "served",
    "set_default",
    "settings_of",
    "smoke",
    "unload_served",
    "unregister",
    "versions",
    "withdraw_served",
    "workers_of",
]


def promote_served(server: Server | None, store: ModelFiles, name: str, version: str) -> None:
    """Make a version the default, in TorchServe if it serves the model, then in the store; or in neither. One that is
    not loaded is loaded first; the default so far stays loaded until the next change.

    Raises NotFound, FailedPrecondition, InvalidArgument or PublicationFailed.
    """
    file = store.file(f"{name}@{version}")
    if server is None or not (before := default_of(server, name)):
        store.promote(name, version)
        return
    if not versions(server, name, version):
        load_served(server, store, file)
    set_default(server, name, version)
    try:
        store.promote(name, version)
    except BaseException:
        with contextlib.suppress(OuzelError):
            set_default(server, name, before)
        raise
    retention.trim(server, store, name, spare=[before])


def withdraw_served(server: Server | None, store: ModelFiles, file: ModelFile) -> None:
    """Serve a version no more, if TorchServe does, and then remove it from the store.

    Raises FailedPrecondition or PublicationFailed; the store then still has it.
    """
    held = {str(found["modelVersion"]) for found in versions(server, file.name)} if server else set()
    if server is not None and file.version in held:
        others = tuple(each for each in store.of(file.name) if each.version in held - {file.version})
        if others and default_of(server, file.name) == file.version:  # TorchServe keeps its default beside others
            set_default(server, file.name, store.default_of(others).version)
        unregister(server, file.name, file.version)
    store.discard(file)


def publish_served(
    server: Server, store: ModelFiles, name: str, version: str, *, base: str = "", promote: bool = False
) -> None:
    """Serve a version of the store with as many processes as its base model has, once it has answered a trial; and
    make it the default if asked to. Older versions beyond those that stay loaded are unloaded. May be repeated.

    base: a model's name, or "name@version", whose settings are taken over if it is served. Raises an OuzelError that
    says why, in one line; the version is then not served.
    """
    file = store.file(f"{name}@{version}")
    try:
        load_served(server, store, file, base=base)
        if promote:
            promote_served(server, store, name, version)
    except BaseException:
        forget(server, name, version)
        raise
    if not promote:
        retention.trim(server, store, name, spare=[version])


def load_served(server: Server, store: ModelFiles, file: ModelFile, *, base: str = "") -> None:
    """Have TorchServe load a version of the store, and try it. May be repeated. Arguments and errors are those of
    `publish_served`; of other versions nothing changes, but the first of a name becomes its default.
    """
    name, version = file.name, file.version
    try:
        if file.error:
            raise PublicationFailed(f"{name} {version} cannot be served: {file.error}")
        check(name, file.path)  # TorchServe's own complaints are hard to read
        base_name, _, base_version = (base or name).partition("@")
        settings = settings_of(server, base_name, base_version) or retention.usual_settings(server)
        for _attempt in range(2):
            register(server, name, version, file.path.name, settings)
            if smoke(server, name, version) == file.digest:
                break
            unregister(server, name, version)  # an earlier archive of this version was still there
        else:
            raise PublicationFailed(f"{name} {version}: other weights answer than those of {file.path}")
    except BaseException:
        forget(server, name, version)
        raise


def unload_served(server: Server, name: str, version: str = "") -> tuple[str, ...]:
    """Have TorchServe unload a version of a model, or all; returns which. They stay in the store.

    Raises NotFound if it is not loaded, FailedPrecondition for the default beside others, and PublicationFailed.
    """
    loaded = [str(found["modelVersion"]) for found in versions(server, name)]
    default = default_of(server, name)
    if version and version not in loaded:
        raise NotFound(f"{name} {version} is not loaded; loaded are {', '.join(loaded) or 'none'}", field="version")
    if not loaded:
        raise NotFound(f"{name} is not loaded", field="name")
    if version == default and len(loaded) > 1:
        raise FailedPrecondition(f"{name} {version} is the default; promote another version first", field="version")
    gone = (version,) if version else tuple(sorted(loaded, key=lambda each: (each == default, each)))
    for each in gone:  # the default last, as TorchServe wants it
        unregister(server, name, each)
    return gone
