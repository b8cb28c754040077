"""The other workers of a job's training, as actors on the nodes of a Ray cluster; see `ray_actors`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ouzel.finetune.distributed.lead import RankLost
from ouzel.worker.ray_actors import NodeActors

_ENDED = 0.05  # s between two looks at the actors


class NodeRanks:
    """See `Others`.

    Args:
        ranks: How many there are, with the one that this process is.
        resources: Of each: cpus, gpus, memory in bytes, threads.
    """

    def __init__(self, ranks: int, resources: dict[str, float]) -> None:
        from datetime import timedelta

        import torch.distributed as dist

        from ouzel.finetune.distributed.group import SECONDS, Rendezvous

        self._ranks, self._seconds = ranks, SECONDS
        self._asked: dict[Any, int] = {}
        self._nodes = NodeActors(_Actor, [(rank, ranks) for rank in range(1, ranks)], resources)
        try:
            self.address = self._nodes.address
            self.store: Any = dist.TCPStore(  # type: ignore[attr-defined]  # torch exports it at run time
                self.address, 0, ranks, True, timedelta(seconds=SECONDS), wait_for_workers=False
            )
            self.rendezvous = Rendezvous(host=self.address, port=self.store.port, nccl=resources["gpus"] >= 1)
        except BaseException:
            self.close()
            raise

    def ready(self, tell: Callable[[], None]) -> None:
        """Waits until all have begun, and has them meet this process."""
        from ouzel.finetune.events import TELL

        refs = {each.ready.remote(): rank for rank, each in enumerate(self._nodes.actors, 1)}
        waiting, until = list(refs), time.monotonic() + self._seconds
        while waiting:
            done, waiting = self._nodes.ray.wait(waiting, timeout=TELL)
            if not done and time.monotonic() < until:
                tell()
            elif not done:
                raise RankLost(
                    f"workers: the cluster had no room for {len(waiting)} of {self._ranks - 1} further workers within "
                    f"{self._seconds:g} s"
                )
            for ref in done:
                if (error := self._error(ref, refs[ref])) is not None:
                    raise error
        for rank, each in enumerate(self._nodes.actors, 1):
            self._asked[each.join.remote(self.rendezvous)] = rank

    def send(self, rank: int, message: bytes) -> None:
        """Hands a message to a rank."""
        self._asked = {ref: each for ref, each in self._asked.items() if each != rank or not self._is_done(ref)}
        self._asked[self._nodes.actors[rank - 1].take.remote(message)] = rank

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
        self._nodes.close()

    def _is_done(self, ref: Any, *, forget: bool = True) -> bool:
        """Whether a message was worked off; forget: and well, so that it need not be looked at again."""
        done, _ = self._nodes.ray.wait([ref], timeout=0)
        return bool(done) and (not forget or self._error(ref, 0) is None)

    def _error(self, ref: Any, rank: int) -> Exception | None:
        return self._nodes.error(ref, f"worker {rank} of the training")


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
