"""The pool of a TorchServe that runs: whether there is one, which versions it answers for, and trials of them."""

from __future__ import annotations

from collections.abc import Collection

from ouzel.model_files import ModelFile
from ouzel.model_names import POOL, POOL_VERSION
from ouzel.torchserve.archives import check
from ouzel.torchserve.errors import PublicationFailed
from ouzel.torchserve.management import versions
from ouzel.torchserve.server import Server
from ouzel.torchserve.trial import smoke


def is_among(served: Collection[tuple[str, str]]) -> bool:
    """Whether a pool answers. served: what `management.served` gives."""
    return (POOL, POOL_VERSION) in served


def answers_for(server: Server, name: str) -> bool:
    """Whether a model is the pool's: there is one, and no version of the model has processes of its own.

    Raises:
        PublicationFailed: TorchServe refuses, or does not answer.
    """
    return bool(versions(server, POOL)) and not versions(server, name)


def try_out(server: Server, file: ModelFile) -> None:
    """Has the pool predict and explain a made-up picture by a version of the store.

    Raises:
        PublicationFailed: There is no answer, one that is not sound, or one of other weights.
        InvalidArgument: The archive is damaged.
    """
    if file.error:
        raise PublicationFailed(f"{file.name} {file.version} cannot be served: {file.error}")
    check(file.name, file.path)
    if smoke(server, file.name, file.version, pooled=True, task=file.task) != file.digest:
        raise PublicationFailed(f"{file.name} {file.version}: other weights answer than those of {file.path}")
