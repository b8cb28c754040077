"""Ranks as processes of this machine, in the process group of the one that starts them: whoever kills it kills all.

They hear on their standard input, and end when it closes. So no rank outlives the training.
"""

from __future__ import annotations

import os
import queue
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ouzel.finetune.distributed.group import SECONDS, Rendezvous
from ouzel.finetune.distributed.lead import RankLost
from ouzel.finetune.events import TELL

MODULE = "ouzel.finetune.rank"
READY = b"r"  # what a rank writes once it has imported all that it needs
NO_MEMORY = 3  # exit status of a rank that had too little
HEADER = struct.Struct("<Q")  # bytes of the message that follows
VISIBLE = "CUDA_VISIBLE_DEVICES"
ENDING = 5.0  # s in which a process ends by itself


def local(ranks: int) -> LocalRanks:
    """Starts all ranks but 0 on this machine; see `Launcher`."""
    return LocalRanks(ranks)


class LocalRanks:
    """See `Others`.

    Args:
        ranks: How many there are, with the one that this process is.
    """

    address = "127.0.0.1"
    store: Any = None

    def __init__(self, ranks: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ouzel-ranks-"))  # for this user alone
        gpus = visible_gpus()
        self.rendezvous = Rendezvous(file=str(self._folder / "store"), nccl=len(gpus) >= ranks)
        self._ranks: dict[int, _Process] = {}
        try:
            for rank in range(1, ranks):
                self._ranks[rank] = _Process(self._command(rank, ranks), gpus[rank % len(gpus)] if gpus else "")
        except BaseException:
            self.close()
            raise

    def ready(self, tell: Callable[[], None]) -> None:
        """Waits until all have begun."""
        until = time.monotonic() + SECONDS
        for rank, each in self._ranks.items():
            output = each.process.stdout
            assert output is not None
            while not (there := select.select([output], [], [], TELL)[0]) and time.monotonic() < until:
                tell()
            if not there or output.read(1) != READY:
                raise self.lost(ENDING) or RankLost(f"workers: worker {rank} did not start within {SECONDS:g} s")

    def send(self, rank: int, message: bytes) -> None:
        """Hands a message to a rank."""
        self._ranks[rank].messages.put(message)

    def lost(self, seconds: float) -> Exception | None:
        """Why a rank has ended."""
        until = time.monotonic() + seconds
        while True:
            for rank, each in self._ranks.items():
                if (code := each.process.poll()) is not None:
                    if code == NO_MEMORY:
                        return MemoryError(f"workers: worker {rank} of the training ran out of memory")
                    return RankLost(f"workers: worker {rank} of the training {how_ended(code)}")
            if time.monotonic() >= until:
                return None
            time.sleep(0.02)

    def close(self) -> None:
        """Ends all of them."""
        for each in self._ranks.values():
            each.messages.put(None)
        deadline = time.monotonic() + ENDING
        for each in self._ranks.values():
            each.end(deadline - time.monotonic())
        shutil.rmtree(self._folder, ignore_errors=True)

    def _command(self, rank: int, ranks: int) -> list[str]:
        nccl = "nccl" if self.rendezvous.nccl else "gloo"
        return [sys.executable, "-m", MODULE, self.rendezvous.file, nccl, str(rank), str(ranks)]


class _Process:
    """A rank, and the thread that writes to it, so that one that stands still stops nobody here."""

    def __init__(self, command: list[str], gpu: str) -> None:
        quiet = {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # of every rank, that there were no layers without a gradient
        environment = os.environ | quiet | ({VISIBLE: gpu} if gpu else {})
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.messages: queue.Queue[bytes | None] = queue.Queue()
        self._thread = threading.Thread(target=self._write, name=f"rank-{self.process.pid}", daemon=True)
        self._thread.start()

    def end(self, seconds: float) -> None:
        """Ends it, by force if it has not ended by itself."""
        end(self.process, seconds)
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _write(self) -> None:
        assert self.process.stdin is not None
        with suppress(OSError), self.process.stdin as file:  # it has ended: whoever computes with it notices
            while (message := self.messages.get()) is not None:
                for content in (HEADER.pack(len(message)), message):
                    view = memoryview(content)
                    while view:
                        view = view[file.write(view) or 0 :]


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Waits for a process to end by itself, and ends it after so many seconds."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(seconds, 0.0))
    if process.poll() is None:
        process.kill()
        process.wait()


def how_ended(code: int) -> str:
    """How a process has ended, in words, of its exit status."""
    return f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"


def visible_gpus() -> list[str]:
    """Ids of the GPUs that this process sees, for CUDA_VISIBLE_DEVICES of others."""
    import torch

    if not torch.cuda.is_available():
        return []
    said = [each.strip() for each in os.environ.get(VISIBLE, "").split(",") if each.strip()]
    return said or [str(number) for number in range(torch.cuda.device_count())]
