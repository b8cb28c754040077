"""The last step of a fine-tune: its model goes into the model server, and nothing else is claimed.

Where many model servers follow the store, a version is served once a quorum of their agents has tried it.

A model server that is down is waited for. If it stays down, the model stays in the store untried, and the job fails as
one whose infrastructure failed, which is tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ouzel.buckets import StorageAway
from ouzel.errors import NotFound
from ouzel.worker.kinds.context import JobContext, JobInterrupted
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.models.store import Entry, ModelStore

PATIENCE = 600.0  # s for a model server that is down; then the attempt fails, and the next one waits again
_PAUSE = 1.0  # s between two looks


def serve(context: JobContext, store: ModelStore, entry: Entry, *, base: str, promote: Callable[[], bool]) -> bool:
    """Publishes a version of the store, and waits for a model server that is down.

    Args:
        context: The job.
        store: The model store.
        entry: The version.
        base: "NAME@VERSION" of the model whose settings are taken over.
        promote: Whether the version becomes the default. Asked when the server is there: much may change until then.

    Returns:
        Whether the version is served: False where there is meant to be no model server, and of a version that its gate
        held back while its name has no default.

    Raises:
        JobInterrupted: The job is to stop.
        LeaseLost: The job belongs to another worker by now.
        NotFound: The version was deleted.
        PublicationFailed: The version was tried, failed, and is withdrawn; or the server did not answer for `PATIENCE`
            seconds, and the version is kept in the store.
    """
    from ouzel.torchserve import publication
    from ouzel.torchserve.quorum import publish_to_agents

    agents = context.environment.agents()
    if agents is None and not context.serving_expected and context.serving is None:
        context.log(f"no model server is known to this worker: {entry.name} {entry.version} is in the store, untried")
        publication.publish_model(
            None,
            store,
            entry.name,
            entry.version,
            promote=promote(),
            withdraw_failed=True,
            record=context.record,
        )
        return False
    whom = "the model server" if agents is None else "the serving agents"
    deadline, waiting = time.monotonic() + PATIENCE, False
    while True:
        context.check_lease()
        try:
            _check_own(store, entry)
            if agents is not None:
                served = publish_to_agents(
                    agents,
                    store,
                    entry.name,
                    entry.version,
                    promote=promote,
                    withdraw_failed=True,
                    record=context.record,
                )
                if not served:
                    context.log(_no_default(entry))
                return served
            if (server := context.serving) is None:
                raise publication.ServerUnreachable("the model server is down")
            if publication.publish_model(
                server,
                store,
                entry.name,
                entry.version,
                base=base,
                promote=promote(),
                withdraw_failed=True,
                record=context.record,
            ):
                return True
            context.log(_no_default(entry))
            return False
        except (publication.ServerUnreachable, StorageAway) as error:
            if time.monotonic() >= deadline:
                raise publication.PublicationFailed(
                    f"{error}, for {PATIENCE:g} s; {entry.name} {entry.version} is kept in the model store"
                    f"{', untried' if agents is None else ''}"
                ) from error
            if not waiting:
                waiting = True
                context.log(f"waiting up to {PATIENCE:g} s for {whom}: {error}", pb.Log.WARNING)
        with context.keepalive(f"waiting for {whom}"):
            if context.stop_within(_PAUSE):
                raise JobInterrupted


def _check_own(store: ModelStore, entry: Entry) -> None:
    """Refuses another version of the same number: who deletes the newest version frees its number. Raises NotFound."""
    if store.file(f"{entry.name}@{entry.version}").digest not in ("", entry.digest):  # "": damaged, which is told later
        raise NotFound(f"version: {entry.name} {entry.version} was deleted before it was published", field="version")


def _no_default(entry: Entry) -> str:
    return f"{entry.name} {entry.version} is in the store, and is not served: {entry.name} has no default"
