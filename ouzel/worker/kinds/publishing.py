"""The last step of a fine-tune: its model goes into the store and into the model server, and nothing else is claimed.

A model server that is down is waited for. A model that could not be tried stays in the store, and the job says so: it
fails as one whose infrastructure failed, and is tried again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ouzel.errors import OuzelError
from ouzel.worker.kinds.context import Stopped, Work
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.models.store import Entry, ModelStore

PATIENCE = 600.0  # s for a model server that is down; then the attempt fails, and the next one waits again
_PAUSE = 1.0  # s between two looks


def serve(work: Work, store: ModelStore, entry: Entry, *, base: str, promote: bool) -> bool:
    """Serve a version of the store, and make it the default if asked to; returns whether it is served.

    False only where no model server is meant to be. base: "name@version", whose settings are taken over. Raises
    Stopped, LeaseLost, and PublicationFailed: with the version withdrawn if it was tried and failed, kept in the store
    if the server did not answer for `PATIENCE` seconds.
    """
    from ouzel.torchserve import publication

    if not work.serving_expected and work.serving is None:
        work.log(f"no model server is known to this worker: {entry.name} {entry.version} is in the store, untried")
        if promote:
            store.promote(entry.name, entry.version)
        return False
    deadline, waiting = time.monotonic() + PATIENCE, False
    while True:
        work.still_mine()
        try:
            _try(work, store, entry, base, promote)
            return True
        except publication.ServerUnreachable as error:
            if time.monotonic() >= deadline:
                raise publication.PublicationFailed(
                    f"{error}, for {PATIENCE:g} s; {entry.name} {entry.version} is kept in the model store, untried"
                ) from error
            if not waiting:
                waiting = True
                work.log(f"waiting up to {PATIENCE:g} s for the model server: {error}", pb.Log.WARNING)
        with work.busy("waiting for the model server"):
            if work.stop_within(_PAUSE):
                raise Stopped


def _try(work: Work, store: ModelStore, entry: Entry, base: str, promote: bool) -> None:
    from ouzel.torchserve import publication

    server = work.serving
    if server is None:
        raise publication.ServerUnreachable("the model server is down")
    try:
        publication.publish_served(server, store, entry.name, entry.version, base=base, promote=promote)
    except publication.ServerUnreachable:
        raise
    except OuzelError:
        if not publication.versions(server, entry.name, entry.version):  # else it is the default since before
            store.withdraw(entry.name, entry.version)
        raise
