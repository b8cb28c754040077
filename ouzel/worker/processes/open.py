"""Opens the executor that the operator has chosen. Loads Ray only where it is the one."""

from __future__ import annotations

from pathlib import Path

from ouzel.errors import FailedPrecondition
from ouzel.forking.client import ForkServer
from ouzel.worker.environment import JobEnvironment
from ouzel.worker.processes import shared_folders
from ouzel.worker.processes.executor import Executor
from ouzel.worker.processes.local_executor import LocalExecutor
from ouzel.worker.processes.ray_options import RayOptions
from ouzel.worker.store.protocol import WorkerStore


def open_executor(
    logs: Path, *, forks: ForkServer | None, ray: RayOptions | None, store: WorkerStore, environment: JobEnvironment
) -> Executor:
    """Opens an executor.

    Args:
        logs: Folder for what processes write.
        forks: Has processes of this machine forked.
        ray: The cluster that processes run on; None is this machine.
        store: Through which processes elsewhere are told to stop.
        environment: Of all jobs; its folders are marked as shared with the cluster.

    Returns:
        The executor. The caller closes it.

    Raises:
        FailedPrecondition: Ray is not installed; the cluster is open to everybody, or refuses this worker.
        Unavailable: The cluster does not answer.
    """
    if ray is None:
        return LocalExecutor(logs, forks)
    try:
        from ouzel.worker.processes.ray_executor import RayExecutor
    except ModuleNotFoundError as error:
        message = f"executor: 'ray' needs {error.name}; run `pip install 'ouzel[cluster]'`"
        raise FailedPrecondition(message, field="executor") from error
    places = (environment.artifacts, environment.models, environment.uploads)
    marks = shared_folders.mark([each for each in places if isinstance(each, Path)])  # a bucket is the same everywhere
    executor = RayExecutor(logs, store, ray, marks=marks)
    try:
        executor.connect()
    except BaseException:
        executor.close()
        raise
    return executor
