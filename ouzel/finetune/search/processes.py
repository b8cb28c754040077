"""Workers of a search as processes of this machine, in the process group of the one that starts them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Protocol, TypeAlias

from ouzel.finetune.distributed.lead import RankLost
from ouzel.finetune.distributed.processes import ENDING, VISIBLE, end, how_ended, visible_gpus

MODULE = "ouzel.finetune.search.worker"

# Is given each worker, by its number from 0 on, once it can be talked to; maybe in another thread.
Joined: TypeAlias = Callable[[int, Connection], None]


class Workers(Protocol):
    """The workers of a search while they run."""

    def lost(self) -> Exception | None:
        """Why one has ended, MemoryError or RankLost, if one has; returns at once."""

    def close(self) -> None:
        """Ends all of them."""


class Starter(Protocol):
    """Starts workers of a search somewhere."""

    def __call__(self, count: int, joined: Joined) -> Workers:
        """Starts so many, and does not wait for them. Raises OuzelError."""


class LocalWorkers:
    """See `Workers`.

    Args:
        count: How many.
        joined: Is given each.
    """

    def __init__(self, count: int, joined: Joined) -> None:
        gpus = visible_gpus()
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for number in range(count):
                ours, theirs = Pipe()
                gpu = {VISIBLE: gpus[number % len(gpus)]} if gpus else {}
                with theirs:
                    self._processes.append(
                        subprocess.Popen(
                            [sys.executable, "-m", MODULE, str(theirs.fileno())],
                            env=os.environ | gpu,
                            stdin=subprocess.DEVNULL,
                            stdout=2,  # libraries that print are no result of this process
                            pass_fds=(theirs.fileno(),),
                        )
                    )
                joined(number, ours)
        except BaseException:
            self.close()
            raise

    def lost(self) -> Exception | None:
        """Why one has ended."""
        for number, each in enumerate(self._processes):
            if (code := each.poll()) is not None:
                return RankLost(f"workers: worker {number + 1} of the search {how_ended(code)}")
        return None

    def close(self) -> None:
        """Ends all of them. They end by themselves where their connections are closed."""
        deadline = time.monotonic() + ENDING
        for each in self._processes:
            end(each, deadline - time.monotonic())
