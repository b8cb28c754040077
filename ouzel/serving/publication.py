"""Tuned models come into a TorchServe that runs, and go, together with the store's idea of them.

No torch, and nothing of starting services: the processes of jobs and the worker itself use this.
"""

from __future__ import annotations

import contextlib

from ouzel.errors import OuzelError
from ouzel.model_files import ModelFiles
from ouzel.serving.errors import PublicationFailed, ServerUnreachable
from ouzel.serving.management import (
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
from ouzel.serving.store import check

__all__ = [
    "PublicationFailed",
    "Server",
    "ServerUnreachable",
    "Settings",
    "default_of",
    "expected",
    "promote_served",
    "publish_served",
    "register",
    "served",
    "set_default",
    "settings_of",
    "smoke",
    "unregister",
    "versions",
    "workers_of",
]


def promote_served(server: Server | None, store: ModelFiles, name: str, version: str) -> None:
    """Make a version the default, in TorchServe if it serves it, then in the store; or in neither.

    Raises NotFound, FailedPrecondition or PublicationFailed.
    """
    store.file(f"{name}@{version}")
    if server is None or not versions(server, name, version):
        store.promote(name, version)
        return
    before = default_of(server, name)
    set_default(server, name, version)
    try:
        store.promote(name, version)
    except BaseException:
        with contextlib.suppress(OuzelError):
            set_default(server, name, before)
        raise


def publish_served(
    server: Server, store: ModelFiles, name: str, version: str, *, base: str = "", promote: bool = False
) -> None:
    """Serve a version of the store with as many processes as its base model has, once it has answered a trial; and
    make it the default if asked to. May be repeated.

    base: a model's name, or "name@version", whose settings are taken over if it is served. Raises an OuzelError that
    says why, in one line; the version is then not served.
    """
    file = store.file(f"{name}@{version}")
    try:
        if file.error:
            raise PublicationFailed(f"{name} {version} cannot be served: {file.error}")
        check(name, file.path)  # TorchServe's own complaints are hard to read
        base_name, _, base_version = base.partition("@")
        settings = (settings_of(server, base_name, base_version) if base else None) or Settings()
        for _attempt in range(2):
            register(server, name, version, file.path.name, settings)
            if smoke(server, name, version) == file.digest:
                break
            unregister(server, name, version)  # an earlier archive of this version was still there
        else:
            raise PublicationFailed(f"{name} {version}: other weights answer than those of {file.path}")
        if promote:
            promote_served(server, store, name, version)
    except BaseException:
        forget(server, name, version)
        raise
