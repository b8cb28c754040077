"""Where the workers of a job's training and of its search run: on this machine, or on the nodes of the job's cluster.

Imports no torch: the worker's service looks at what jobs do.
"""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ouzel.finetune.distributed.lead import Launcher
    from ouzel.finetune.search.processes import Starter

RESOURCES = "OUZEL_RANK_RESOURCES"  # the variable with what Ray reserves for each worker, as JSON; set on a cluster


def launcher() -> Launcher:
    """Starts workers where the job of this process runs."""
    if RESOURCES in os.environ:
        from ouzel.worker.ray_ranks import NodeRanks

        return partial(NodeRanks, resources=json.loads(os.environ[RESOURCES]))
    from ouzel.finetune.distributed.processes import local

    return local


def trial_starter() -> Starter:
    """Starts the workers of a search where the job of this process runs."""
    if RESOURCES in os.environ:
        from ouzel.worker.ray_trials import NodeWorkers

        return partial(NodeWorkers, resources=json.loads(os.environ[RESOURCES]))
    from ouzel.finetune.search.processes import LocalWorkers

    return LocalWorkers
