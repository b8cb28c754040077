"""What a rank other than 0 does: it gets the network, takes steps with its part of each batch, and keeps nothing.

    python -m ouzel.finetune.rank FILE gloo|nccl RANK RANKS

Messages come on its standard input. It ends when that closes.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
from typing import BinaryIO

import torch

from ouzel import models
from ouzel.finetune.distributed.group import Group, Rendezvous, device_of_rank
from ouzel.finetune.distributed.lead import unpacked
from ouzel.finetune.distributed.memory import is_out_of_memory
from ouzel.finetune.distributed.messages import Begin, Step
from ouzel.finetune.distributed.processes import HEADER, NO_MEMORY, READY
from ouzel.finetune.schedule import make_optimizer, restore
from ouzel.finetune.steps import Stepper

_log = logging.getLogger(__name__)


class Rank:
    """A rank other than 0, in a process of its own.

    Args:
        group: Of all ranks.
        device: Where this one computes.
    """

    def __init__(self, group: Group, device: torch.device) -> None:
        self._group, self._device = group, device
        self._stepper: Stepper | None = None
        self._optimizer: torch.optim.Optimizer | None = None

    def take(self, message: bytes) -> None:
        """Does what rank 0 says, in step with all other ranks.

        Args:
            message: Of `distributed.lead.packed`, from the process that started this one.
        """
        told = unpacked(message)
        with models.computing():
            if isinstance(told, Begin):
                self._begin(told)
            else:
                self._step(told)

    def _begin(self, told: Begin) -> None:
        network = told.network.to(self._device)
        network.to(memory_format=torch.channels_last)
        self._optimizer = make_optimizer(network, told.head, told.recipe, told.all_layers)
        restore(self._optimizer, dict(told.optimizer))
        weights = None if told.weights is None else told.weights.to(self._device)
        self._stepper = Stepper(
            network,
            told.vary,
            told.recipe,
            weights,
            told.micro,
            told.precision,
            one_shape=told.one_shape,
            loss=told.loss,
            group=self._group,
        )
        self._stepper.begin()

    def _step(self, told: Step) -> None:
        assert self._stepper is not None
        assert self._optimizer is not None
        for group, rate in zip(self._optimizer.param_groups, told.rates, strict=True):
            group["lr"] = rate
        self._stepper.step(self._optimizer, told.share.to(self._device))


def main(arguments: list[str]) -> int:
    """Serves rank 0 until standard input closes; returns the exit status."""
    file, backend, rank, ranks = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C and SIGTERM are for rank 0, which ends this one
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    messages, output = sys.stdin.buffer, os.dup(1)
    os.dup2(2, 1)  # libraries that print are no answer
    threading.Thread(target=_end_at_the_end, args=(messages.fileno(),), daemon=True).start()
    device = device_of_rank()
    os.write(output, READY)
    group = Group(Rendezvous(file=file, nccl=backend == "nccl"), int(rank), int(ranks))
    this = Rank(group, device)
    try:
        while (message := _read(messages)) is not None:
            this.take(message)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            _log.exception("rank %s has too little memory", rank)
            return NO_MEMORY
        _log.exception("rank %s ends", rank)  # rank 0 is gone, as a rule
        return 1
    return 0


def _end_at_the_end(descriptor: int) -> None:
    """Ends this process once nobody can write to a pipe any more, also while it waits for ranks that are gone."""
    pipe = select.poll()
    pipe.register(descriptor, 0)
    pipe.poll()  # without events that are asked for, it tells of the end alone
    os._exit(0)


def _read(file: BinaryIO) -> bytes | None:
    """The next message; None at the end."""
    header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    message = file.read(length)
    return message if len(message) == length else None


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # leaving the process group in order would wait for ranks that are gone
