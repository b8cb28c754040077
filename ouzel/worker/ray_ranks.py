"""The other workers of a job's training, as actors on the nodes of a Ray cluster.

Why actors of the job's own, and not Ray Train's TorchTrainer. The job's process holds the lease, the checkpoints and
the word to stop, and it is rank 0: it needs workers that compute and know nothing else. TorchTrainer runs all of the
training in its workers, under a controller that starts them anew by itself and keeps checkpoints of its own: a second
truth beside the job store, which no fence of ours reaches. Here Ray reserves the room (a placement group of as much for
each worker as the job itself has), and ends the actors with the job that owns them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any

from ouzel.finetune.distributed.lead import RankLost

_ENDED = 0.05  # s between two looks at the actors


class NodeRanks:
    """See `Others`.

    Args:
        ranks: How many there are, with the one that this process is.
        resources: Of each: cpus, gpus, memory in bytes, threads.
    """

    def __init__(self, ranks: int, resources: dict[str, float]) -> None:
        from datetime import timedelta

        import ray
        import torch.distributed as dist
        from ray.util import get_node_ip_address, placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        from ouzel.finetune.distributed.group import SECONDS, Rendezvous

        self._ray, self._ranks, self._seconds = ray, ranks, SECONDS
        stop = signal.getsignal(signal.SIGTERM)
        ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), configure_logging=False, log_to_driver=False)
        signal.signal(signal.SIGTERM, stop)  # Ray's own would end the job without a checkpoint
        self._actors: dict[int, Any] = {}
        self._asked: dict[Any, int] = {}
        bundle = {"CPU": resources["cpus"], "GPU": resources["gpus"], "memory": resources["memory"]}
        self._room = placement_group([{name: each for name, each in bundle.items() if each}] * (ranks - 1))
        try:
            self.address: str = get_node_ip_address()
            self.store: Any = dist.TCPStore(  # type: ignore[attr-defined]
                self.address, 0, ranks, True, timedelta(seconds=SECONDS), wait_for_workers=False
            )
            self.rendezvous = Rendezvous(host=self.address, port=self.store.port, nccl=resources["gpus"] >= 1)
            threads = {"env_vars": {"OMP_NUM_THREADS": str(int(resources["threads"]))}, "py_executable": sys.executable}
            for rank in range(1, ranks):
                self._actors[rank] = (
                    ray.remote(_Actor)
                    .options(
                        num_cpus=resources["cpus"],
                        num_gpus=resources["gpus"],
                        memory=resources["memory"] or None,
                        max_restarts=0,
                        runtime_env=threads,
                        scheduling_strategy=PlacementGroupSchedulingStrategy(self._room, rank - 1),
                    )
                    .remote(rank, ranks)
                )
        except BaseException:
            self.close()
            raise

    def ready(self) -> None:
        """Waits until all have begun, and has them meet this process."""
        refs = {each.ready.remote(): rank for rank, each in self._actors.items()}
        waiting, until = list(refs), time.monotonic() + self._seconds
        while waiting:
            done, waiting = self._ray.wait(waiting, timeout=max(0.0, until - time.monotonic()))
            if not done:
                raise RankLost(
                    f"workers: the cluster had no room for {len(waiting)} of {self._ranks - 1} further workers within "
                    f"{self._seconds:g} s"
                )
            for ref in done:
                if (error := self._error(ref, refs[ref])) is not None:
                    raise error
        for rank, each in self._actors.items():
            self._asked[each.join.remote(self.rendezvous)] = rank

    def send(self, rank: int, message: bytes) -> None:
        """Hands a message to a rank."""
        self._asked = {ref: each for ref, each in self._asked.items() if each != rank or not self._is_done(ref)}
        self._asked[self._actors[rank].take.remote(message)] = rank

    def lost(self, seconds: float) -> Exception | None:
        """Why a rank has ended."""
        until = time.monotonic() + seconds
        while True:
            for ref, rank in list(self._asked.items()):
                if self._is_done(ref, forget=False) and (error := self._error(ref, rank)) is not None:
                    return error
            if time.monotonic() >= until:
                return None
            time.sleep(_ENDED)

    def close(self) -> None:
        """Ends all of them, and leaves the cluster."""
        from ray.util import remove_placement_group

        with suppress(Exception):  # the cluster may be gone; what is of the job ends with it
            for each in self._actors.values():
                self._ray.kill(each)
            remove_placement_group(self._room)
        self._ray.shutdown()

    def _is_done(self, ref: Any, *, forget: bool = True) -> bool:
        """Whether a message was worked off; forget: and well, so that it need not be looked at again."""
        done, _ = self._ray.wait([ref], timeout=0)
        return bool(done) and (not forget or self._error(ref, 0) is None)

    def _error(self, ref: Any, rank: int) -> Exception | None:
        try:
            self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            text = str(error).strip().rpartition("\n")[2][:200]
            if isinstance(cause, MemoryError) or "out of memory" in text or "OutOfMemory" in type(error).__name__:
                return MemoryError(f"workers: worker {rank} of the training ran out of memory")
            return RankLost(f"workers: worker {rank} of the training was lost ({text or type(error).__name__})")
        return None


class _Actor:
    """A rank, in a process that Ray has started."""

    def __init__(self, rank: int, ranks: int) -> None:
        self._place = rank, ranks
        self._rank: Any = None

    def ready(self) -> bool:
        import ouzel.finetune.rank  # noqa: F401 - what takes long

        return True

    def join(self, rendezvous: Any) -> None:
        from ray.util import get_node_ip_address

        from ouzel.finetune.distributed.group import Group, device_of_rank
        from ouzel.finetune.rank import Rank

        self._rank = Rank(Group(rendezvous, *self._place, address=get_node_ip_address()), device_of_rank())

    def take(self, message: bytes) -> None:
        self._rank.take(message)
