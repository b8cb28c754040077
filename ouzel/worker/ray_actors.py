"""Actors of a job on the nodes of its Ray cluster: Ray reserves the room for them, and ends them with the job.

Why actors of the job's own, and not Ray Train's TorchTrainer or Ray Tune. The job's process holds the lease, the
checkpoints and the word to stop: it needs workers that compute and know nothing else. TorchTrainer and Tune run all of
the training in their workers, under a controller that starts them anew by itself and keeps checkpoints of its own: a
second truth beside the job store, which no fence of ours reaches. Here Ray reserves the room (a placement group of as
much for each worker as the job itself has), and ends the actors with the job that owns them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ouzel.finetune.distributed.lead import RankLost


class NodeActors:
    """Actors, which are started at once and not waited for.

    Args:
        kind: Their class.
        arguments: Of the class, for each actor.
        resources: Of each: cpus, gpus, memory in bytes, threads.

    Attributes:
        ray: The library, connected to the cluster.
        address: Of this process, for the actors.
        actors: In the order of `arguments`.
    """

    def __init__(self, kind: type, arguments: Sequence[tuple[Any, ...]], resources: dict[str, float]) -> None:
        import ray
        from ray.util import get_node_ip_address, placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self.ray = ray
        stop = signal.getsignal(signal.SIGTERM)
        ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), configure_logging=False, log_to_driver=False)
        signal.signal(signal.SIGTERM, stop)  # Ray's own would end the job without a checkpoint
        self.actors: list[Any] = []
        bundle = {"CPU": resources["cpus"], "GPU": resources["gpus"], "memory": resources["memory"]}
        self._room = placement_group([{name: each for name, each in bundle.items() if each}] * len(arguments))
        try:
            self.address: str = get_node_ip_address()
            threads = {"env_vars": {"OMP_NUM_THREADS": str(int(resources["threads"]))}, "py_executable": sys.executable}
            for number, each in enumerate(arguments):
                self.actors.append(
                    ray.remote(kind)
                    .options(
                        num_cpus=resources["cpus"],
                        num_gpus=resources["gpus"],
                        memory=resources["memory"] or None,
                        max_restarts=0,
                        runtime_env=threads,
                        scheduling_strategy=PlacementGroupSchedulingStrategy(self._room, number),
                    )
                    .remote(*each)
                )
        except BaseException:
            self.close()
            raise

    def error(self, ref: Any, who: str) -> Exception | None:
        """Why a call has failed, MemoryError or RankLost; None if it has not.

        Args:
            ref: Of a call that is over.
            who: Was called, for the message.
        """
        try:
            self.ray.get(ref)
        except self.ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            text = str(error).strip().rpartition("\n")[2][:200]
            if isinstance(cause, MemoryError) or "out of memory" in text or "OutOfMemory" in type(error).__name__:
                return MemoryError(f"workers: {who} ran out of memory")
            return RankLost(f"workers: {who} was lost ({text or type(error).__name__})")
        return None

    def close(self) -> None:
        """Ends all of them, and leaves the cluster."""
        from ray.util import remove_placement_group

        with suppress(Exception):  # the cluster may be gone; what is of the job ends with it
            for each in self.actors:
                self.ray.kill(each)
            remove_placement_group(self._room)
        self.ray.shutdown()
