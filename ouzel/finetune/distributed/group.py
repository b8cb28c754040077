"""The process group of a training: how ranks find each other, and what they compute together (gloo; NCCL on GPUs)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import psutil
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ouzel.errors import FailedPrecondition
from ouzel.finetune.distributed.messages import Turn
from ouzel.finetune.distributed.norms import WholeBatch

SECONDS = 300.0  # that ranks wait for each other: then one of them counts as lost
# Running statistics are the same on all ranks as they are. Later versions of torch call it otherwise.
_BUFFERS = ("forward_sync_buffers", "broadcast_buffers")
_NO_SYNC: Any = {next(each for each in _BUFFERS if each in signature(DistributedDataParallel).parameters): False}
_INTERFACE = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True)
class Rendezvous:
    """Where ranks find each other.

    Attributes:
        file: That they share, on one machine; "" where they are on several.
        host: Else, the address of rank 0.
        port: There, of its store.
        nccl: Whether each rank has a GPU of its own.
    """

    file: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    nccl: bool = False


class Group:
    """This process among the ranks.

    Args:
        rendezvous: Where they meet.
        rank: Of this process, from 0.
        ranks: How many there are.
        address: Of this process, at which the others reach it.
        store: Of the rendezvous, where this process holds it.
    """

    def __init__(
        self, rendezvous: Rendezvous, rank: int, ranks: int, *, address: str = "127.0.0.1", store: Any = None
    ) -> None:
        if dist.is_initialized():
            raise FailedPrecondition("workers: this process has a process group of torch.distributed already")
        self.rank, self.ranks = rank, ranks
        waiting = timedelta(seconds=SECONDS)
        if store is None and rendezvous.file:
            store = dist.FileStore(rendezvous.file, ranks)  # type: ignore[attr-defined]  # torch exports it at run time
        elif store is None:
            store = dist.TCPStore(  # type: ignore[attr-defined]  # likewise
                rendezvous.host, rendezvous.port, ranks, False, waiting
            )
        with _interface(address):
            backend = "nccl" if rendezvous.nccl else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=waiting)
        try:
            self._norms = dist.new_group()  # of its own: gradients are summed while layers before still wait for it
        except BaseException:
            dist.destroy_process_group()
            raise

    def wrapped(self, network: nn.Module) -> DistributedDataParallel:
        """The network, whose gradients are summed over the ranks. Layers that give auxiliary outputs may be unused."""
        return DistributedDataParallel(network, find_unused_parameters=True, **_NO_SYNC)

    @contextmanager
    def turn(self, network: DistributedDataParallel, turn: Turn, *, last: bool) -> Iterator[None]:
        """One pass of a step. last: gradients are summed in the last one."""
        with ExitStack() as stack:
            if not last:
                stack.enter_context(network.no_sync())
            stack.enter_context(WholeBatch(turn.counted, turn.total, self._norms))
            yield

    def summed(self, value: Tensor) -> Tensor:
        """Over the ranks."""
        dist.all_reduce(value)
        return value

    def close(self) -> None:
        """Leaves the group."""
        dist.destroy_process_group()


def device_of_rank() -> torch.device:
    """Where a process computes that has been given at most one GPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _interface(address: str) -> Iterator[None]:
    """Has gloo and NCCL listen at the network interface that has this address, not at that of the machine's name."""
    names = [name for name, all_ in psutil.net_if_addrs().items() if any(each.address == address for each in all_)]
    before = {name: os.environ.get(name) for name in _INTERFACE}
    if names:
        os.environ.update({name: names[0] for name in _INTERFACE if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
