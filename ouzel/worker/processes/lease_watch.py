"""The eyes of a job's process that no signal reaches: it asks the store whether it is to go on.

On another machine a process sees neither SIGTERM of the worker nor the worker's end. So a thread looks at the job's own
lease twice a second:

- its owner or its worker wants it to stop: it stops after the next checkpoint, or at once;
- the lease is gone: others have the job. Whatever the process does is refused, so it ends;
- nobody beats the lease any more: no worker supervises the job. It goes back into the queue after its next checkpoint.

A store that does not answer says nothing, and the process goes on.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ouzel.errors import OuzelError
from ouzel.worker.processes.executor import Task
from ouzel.worker.store.job import Lease
from ouzel.worker.store.protocol import LeaseLost, WorkerStore

_log = logging.getLogger(__name__)
_LOOK = 0.5  # s
_GRACE = 5.0  # s for the job to end by itself once its lease is gone


@contextmanager
def watching(task: Task, store: WorkerStore, stop: threading.Event) -> Iterator[None]:
    """Watches the lease of a task while the block runs; does nothing for a task without patience.

    Args:
        task: What the process works on.
        store: Holds the lease.
        stop: Set when the job is to stop.
    """
    if not task.patience:
        yield
        return
    over = threading.Event()
    threading.Thread(target=_watch, args=(task, store, stop, over), name="lease-watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(task: Task, store: WorkerStore, stop: threading.Event, over: threading.Event) -> None:
    lease = Lease(task.job, task.attempt, task.worker)
    beat, since = -1, time.monotonic()
    while not over.wait(_LOOK):
        try:
            sign = store.sign(lease)
        except LeaseLost as error:
            _log.warning("%s; this process ends", error)
            stop.set()
            if not over.wait(_GRACE):
                os._exit(0)
            return
        except OuzelError:
            since = time.monotonic()  # nobody could beat it either
            continue
        now = time.monotonic()
        if sign.beat != beat:
            beat, since = sign.beat, now
        if sign.kill:
            _log.warning("the worker ends this process")
            os._exit(1)
        if sign.stop:
            stop.set()
        elif now - since >= task.patience and not stop.is_set():
            _log.warning("no worker has supervised this job for %g s; it goes back into the queue", task.patience)
            stop.set()
