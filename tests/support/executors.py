"""Executors of a real Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ouzel.worker.processes import shared_folders
from ouzel.worker.processes.ray_options import RayOptions
from ouzel.worker.store.protocol import Store
from support.ray_cluster import Cluster

if TYPE_CHECKING:
    from ouzel.worker.processes.ray_executor import RayExecutor


@contextmanager
def rays(cluster: Cluster, store: Store, folder: Path, **more: float) -> Iterator[Callable[[], RayExecutor]]:
    """Makes executors, which are closed in the end. more: of their options."""
    from ouzel.worker.processes.ray_executor import RayExecutor  # once the cluster runs: Ray reads its token then

    options = RayOptions(cluster.address, python=sys.executable, **more)  # type: ignore[arg-type]
    marks = shared_folders.mark([folder / "artifacts"])
    with ExitStack() as made:

        def create() -> RayExecutor:
            executor = RayExecutor(folder / "logs", store, options, marks=marks)
            made.callback(executor.close)
            return executor

        yield create
