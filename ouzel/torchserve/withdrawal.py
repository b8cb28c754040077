"""Versions go: out of the TorchServe that runs, and out of the model store."""

from __future__ import annotations

from ouzel.errors import FailedPrecondition, NotFound
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.torchserve.changes import Record, facts_of, nothing
from ouzel.torchserve.management import default_of, set_default, unregister, versions
from ouzel.torchserve.server import Server


def withdraw_served(
    server: Server | None,
    store: ModelFiles,
    file: ModelFile,
    *,
    unless_default: bool = False,
    record: Record = nothing,
) -> None:
    """Takes a version out of TorchServe, if it is served, and then removes it from the store.

    Args:
        server: TorchServe; None changes the store alone.
        store: The model store.
        file: The version.
        unless_default: Whether the default beside other versions is refused.
        record: Hears of it before anything is deleted, because that cannot be undone.

    Raises:
        FailedPrecondition, PublicationFailed: One line that says why; the store then still has the version.
    """
    served_now = {str(description["modelVersion"]) for description in versions(server, file.name)} if server else set()
    left = tuple(each for each in store.of(file.name) if each != file)
    others = tuple(each for each in left if each.version in served_now)
    following = store.default_of(others) if others else None
    record("deletion", {"what": "model", **facts_of(file)})
    heir = following or (store.default_of(left) if left else None)
    if heir is not None and file == store.default_of(store.of(file.name)):
        record("promotion", {**facts_of(heir), "before": file.version})
    if server is not None and file.version in served_now:
        if others and default_of(server, file.name) == file.version:  # TorchServe keeps its default beside others
            if following is None:  # gates held back all others: without a default they are not served either
                for other in others:
                    unregister(server, file.name, other.version)
            else:
                set_default(server, file.name, following.version)
                store.promote(file.name, following.version)  # else the store takes the first one
        unregister(server, file.name, file.version)
    if unless_default:
        store.withdraw(file.name, file.version, unless_default=True)
    else:
        store.discard(file)


def unload_served(server: Server, name: str, version: str = "") -> tuple[str, ...]:
    """Has TorchServe unload a version of a model, or all of them. They stay in the store.

    Args:
        server: TorchServe.
        name: The model's name.
        version: The version; "" is all.

    Returns:
        The versions that were unloaded.

    Raises:
        NotFound: It is not loaded.
        FailedPrecondition: It is the default beside other versions.
        PublicationFailed: TorchServe refuses, or does not answer.
    """
    loaded = [str(description["modelVersion"]) for description in versions(server, name)]
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
