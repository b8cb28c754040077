"""Versions of models come into a TorchServe that runs, and go, together with their state in the model store.

`publish_model` brings a new version; the other functions change versions that are in the store already. If one of them
fails, TorchServe and the store are as they were before. No torch: the processes of jobs, the worker and the command
line use this.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack

from ouzel.errors import FailedPrecondition, OuzelError
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.torchserve import pool, retention
from ouzel.torchserve.archives import check
from ouzel.torchserve.changes import Record, Withdrawal, facts_of, nothing, promoted, recorded, undone_on_failure
from ouzel.torchserve.errors import PublicationFailed, ServerUnreachable
from ouzel.torchserve.management import (
    Settings,
    default_of,
    forget,
    register,
    served,
    set_default,
    settings_of,
    unregister,
    versions,
    workers_of,
)
from ouzel.torchserve.server import Server, expected
from ouzel.torchserve.trial import smoke
from ouzel.torchserve.withdrawal import unload_served, withdraw_served

__all__ = [
    "PublicationFailed",
    "Record",
    "Server",
    "ServerUnreachable",
    "Settings",
    "default_of",
    "expected",
    "load_served",
    "promote_served",
    "publish_model",
    "register",
    "serve_version",
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


def publish_model(
    server: Server | None,
    store: ModelFiles,
    name: str,
    version: str,
    *,
    base: str = "",
    promote: bool = False,
    withdraw_failed: bool = False,
    record: Record = nothing,
) -> bool:
    """Serves a version of the store once it has answered a trial, and makes it the default if asked to.

    It gets as many processes as its base model has. Older versions beyond those that stay loaded are unloaded. Where a
    pool answers, and the model has no processes of its own, the pool answers for it. The call may be repeated. If it
    fails, the version is not served and the default is the one from before.

    Args:
        server: TorchServe; None changes the store alone.
        store: The model store, which has the version already.
        name: The model's name.
        version: The new version.
        base: "NAME" or "NAME@VERSION" of the model whose settings are taken over, if it is served.
        promote: Whether the version becomes the default.
        withdraw_failed: Whether a version that was tried and failed, or could not be recorded, is removed from the
            store. It stays if TorchServe does not answer, if it is still served, as the default from before is, and if
            it has been made the default before.
        record: Hears of the publication and the promotion while they can still be undone.

    Returns:
        Whether it is served: False without TorchServe, and of a version that a gate held back if there is no default,
        for TorchServe would take the first version that it loads for it.

    Raises:
        OuzelError: One line that says why. ServerUnreachable if TorchServe does not answer.
    """
    file = store.file(f"{name}@{version}")
    if server is None:
        with undone_on_failure() as undo:
            withdrawal = Withdrawal(store, file, record, wanted=withdraw_failed)
            undo.push(withdrawal)
            withdrawal.published(served=False)
            if promote:
                promoted(undo, record, store, file)
        return False
    if pool.answers_for(server, name):
        _publish_pooled(server, store, file, promote=promote, withdraw_failed=withdraw_failed, record=record)
        return True
    if not promote and store.default_of(store.of(name)) is None:
        return False
    before = ""
    with undone_on_failure() as undo:
        if withdraw_failed:
            undo.push(_withdrawal(server, store, file))
        _load(server, store, file, base, undo)
        recorded(undo, record, "publication", {**facts_of(file), "served": True})
        if promote:
            before = _promote(server, store, file, undo, record)
    retention.trim(server, store, name, spare=[before] if promote else [version])
    return True


def _publish_pooled(
    server: Server, store: ModelFiles, file: ModelFile, *, promote: bool, withdraw_failed: bool, record: Record
) -> None:
    with undone_on_failure() as undo:
        if withdraw_failed:
            undo.push(_withdrawal(server, store, file))
        pool.try_out(server, file)
        recorded(undo, record, "publication", {**facts_of(file), "served": True})
        if promote:
            promoted(undo, record, store, file)


def load_served(
    server: Server, store: ModelFiles, file: ModelFile, *, base: str = "", record: Record = nothing
) -> None:
    """Has TorchServe load a version of the store, and tries it.

    The call may be repeated. Of other versions nothing changes, but the first of a name becomes its default.

    Args:
        server: TorchServe.
        store: The model store.
        file: The version.
        base: As in `publish_model`; "" takes the settings of the model's default version.
        record: Hears of it while it can still be undone.

    Raises:
        FailedPrecondition: A gate held the version back, and the model has no default.
        OuzelError: One line that says why; the version is then not served.
    """
    if store.default_of(store.of(file.name)) is None:
        raise FailedPrecondition(
            f"{file.name} {file.version} was held back by its gate, and TorchServe takes the first version that it "
            "loads for the default; promote it, or promote another one first",
            field="version",
        )
    with undone_on_failure() as undo:
        _load(server, store, file, base, undo)
        recorded(undo, record, "publication", {**facts_of(file), "served": True})


def serve_version(server: Server, store: ModelFiles, file: ModelFile) -> None:
    """Has TorchServe, or its pool, answer a trial with a version; of other versions nothing changes.

    The first version of a name becomes its default. The call may be repeated.

    Args:
        server: TorchServe.
        store: The folder that TorchServe serves.
        file: The version, in that folder.

    Raises:
        OuzelError: One line that says why; the version is then not loaded.
    """
    if pool.answers_for(server, file.name):
        pool.try_out(server, file)
        return
    with undone_on_failure() as undo:
        _load(server, store, file, "", undo)


def promote_served(
    server: Server | None, store: ModelFiles, name: str, version: str, *, record: Record = nothing
) -> None:
    """Makes a version the default, in TorchServe if it serves the model, then in the store; or in neither.

    A version that is not loaded is loaded first. The default so far stays loaded until the next change.

    Args:
        server: TorchServe; None changes the store alone.
        store: The model store.
        name: The model's name.
        version: The version.
        record: Hears of it while it can still be undone.

    Raises:
        NotFound, FailedPrecondition, InvalidArgument, PublicationFailed: One line that says why.
    """
    file = store.file(f"{name}@{version}")
    if server is not None and pool.answers_for(server, name):
        pool.try_out(server, file)
        server = None
    first = server is not None and store.default_of(store.of(name)) is None  # of its name that is served
    if server is None or not (first or default_of(server, name)):
        with undone_on_failure() as undo:
            promoted(undo, record, store, file)
        return
    with undone_on_failure() as undo:
        if not versions(server, name, version):
            _load(server, store, file, "", undo)
            recorded(undo, record, "publication", {**facts_of(file), "served": True})
        before = _promote(server, store, file, undo, record)
    retention.trim(server, store, name, spare=[before])


def _withdrawal(server: Server, store: ModelFiles, file: ModelFile) -> Withdrawal:
    """An undo step: the store forgets a version that was tried and failed, unless it is the default from before."""
    return Withdrawal(store, file, nothing, wanted=True, kept=lambda: bool(versions(server, file.name, file.version)))


def _load(server: Server, store: ModelFiles, file: ModelFile, base: str, undo: ExitStack) -> None:
    """Registers a version and tries it."""
    name, version = file.name, file.version
    undo.callback(forget, server, name, version)
    if file.error:
        raise PublicationFailed(f"{name} {version} cannot be served: {file.error}")
    check(name, file.path)  # TorchServe's own complaints are hard to read
    base_name, _, base_version = (base or name).partition("@")
    settings = settings_of(server, base_name, base_version) or retention.usual_settings(server)
    for _attempt in range(2):
        register(server, name, version, file.path.name, settings)
        if smoke(server, name, version, task=file.task) == file.digest:
            return
        unregister(server, name, version)  # an earlier archive of this version was still there
    raise PublicationFailed(f"{name} {version}: other weights answer than those of {file.path}")


def _promote(server: Server, store: ModelFiles, file: ModelFile, undo: ExitStack, record: Record) -> str:
    """Changes the default of TorchServe and then of the store; returns the default of TorchServe from before."""
    before = default_of(server, file.name)
    set_default(server, file.name, file.version)
    undo.callback(_restore_default, server, file.name, before)
    promoted(undo, record, store, file, before=before)
    return before


def _restore_default(server: Server, name: str, version: str) -> None:
    with contextlib.suppress(OuzelError):
        set_default(server, name, version)
