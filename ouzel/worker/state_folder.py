"""The state folder of a worker: one worker uses it at a time, and clients on this machine find it by its record."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ouzel.errors import FailedPrecondition
from ouzel.worker.options import WorkerOptions
from ouzel_protos.local import WORKER, Worker


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """One worker per state folder. The lock is free again however its holder ends."""
    folder = state / "jobs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedPrecondition(f"another worker runs with the state folder {state}") from None
        yield


@contextmanager
def recorded(options: WorkerOptions, address: str, token_file: Path) -> Iterator[None]:
    """The record by which clients on this machine find the worker."""
    record: Worker = {
        "pid": os.getpid(),
        "create_time": psutil.Process().create_time(),
        "grpc": address,
        "token_file": str(token_file),
        "ledger": str(options.ledger_folder or ""),
    }
    state = options.state
    handle, name = tempfile.mkstemp(dir=state / "jobs")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=2)
    Path(name).replace(state / WORKER)
    try:
        yield
    finally:
        (state / WORKER).unlink(missing_ok=True)
