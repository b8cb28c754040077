"""Which folder is that of the log. Without the packages that the log itself needs.

The worker, the processes of models and the command line must agree on it. `ouzel.ledger.settings` reads what it holds.
"""

from __future__ import annotations

import os
from pathlib import Path

from ouzel.buckets import is_bucket
from ouzel.databases.urls import is_postgres
from ouzel_protos.local import read_worker, state_dir

VARIABLE = "OUZEL_LEDGER"
FILE = "ledger.json"  # says where the parts of the log are
_FOLDER = "ledger"


def folder_of(state: Path | None) -> Path:
    """The folder of the log of the services of a state folder.

    Args:
        state: The state folder; None is the usual one.

    Returns:
        What $OUZEL_LEDGER says; else what the worker that runs says; else the one that `ouzel up` would choose.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser().absolute()
    state = (state or state_dir()).expanduser().absolute()
    worker = read_worker(state)
    if worker is not None and worker.get("ledger"):
        return Path(worker["ledger"])
    artifacts = os.environ.get("OUZEL_WORKER_ARTIFACTS")
    if artifacts and is_bucket(artifacts):  # then a shared log has a name of its own
        artifacts = None
    return chosen(state, os.environ.get("OUZEL_WORKER_JOBS", ""), Path(artifacts) if artifacts else None)


def chosen(state: Path, store: str, artifacts: Path | None) -> Path:
    """The folder of the log where nobody names one.

    Args:
        state: The state folder.
        store: URL of the job store; "" is SQLite in the state folder.
        artifacts: Folder of artifacts, which workers of one store share; None is in the state folder.

    Returns:
        In the state folder; beside the artifacts where workers share a PostgreSQL store, and with it the log.
    """
    if not is_postgres(store):
        return state / _FOLDER
    return (artifacts or state / "jobs" / "artifacts").expanduser().absolute().parent / _FOLDER


def known(folder: Path) -> bool:
    """Whether the folder says where its log is."""
    return (folder / FILE).exists()
