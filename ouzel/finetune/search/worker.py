"""What a worker of a search does: it computes one trial after the other, and keeps nothing.

    python -m ouzel.finetune.search.worker FD

FD is an inherited end of a socket pair, by which it hears what to compute. It ends when the other end closes. Images
are asked for there, too: a worker knows neither files nor stores.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch

from ouzel.errors import FailedPrecondition
from ouzel.finetune.distributed.memory import is_out_of_memory
from ouzel.finetune.events import Event
from ouzel.finetune.features import MemoryCache
from ouzel.finetune.search.channel import Channel
from ouzel.finetune.search.messages import (
    Alive,
    Content,
    Ended,
    Epoch,
    Failed,
    Setup,
    Start,
    Verdict,
    Wanted,
)
from ouzel.finetune.search.training import Trainings

_SIGN = 5.0  # s between two signs of life
_KEPT = 2**29  # bytes of files that a worker keeps, so as not to ask for them with each trial


class Files:
    """The files of images, as far as they fit into some memory; the others are asked for again.

    Args:
        ask: Sends for one.
    """

    def __init__(self, ask: Callable[[Wanted], None]) -> None:
        self._ask, self._lock = ask, threading.Lock()
        self._kept: dict[str, bytes] = {}
        self._asked: dict[str, Future[bytes]] = {}
        self._bytes = 0

    def read(self, sha256: str) -> bytes:
        """Gives a file. Raises InvalidArgument as its reader does."""
        with self._lock:
            if sha256 in self._kept:
                return self._kept[sha256]
            known = self._asked.get(sha256)
            future = self._asked[sha256] = Future[bytes]() if known is None else known
        if known is None:
            self._ask(Wanted(sha256))
        return future.result()

    def take(self, answer: Content) -> None:
        """Hands a file to who waits for it."""
        content = answer.content
        with self._lock:
            future = self._asked.pop(answer.sha256)
            if isinstance(content, bytes) and self._bytes + len(content) <= _KEPT:
                self._kept[answer.sha256] = content
                self._bytes += len(content)
        if isinstance(content, bytes):
            future.set_result(content)
        else:
            future.set_exception(content)


class Worker:
    """Computes trials.

    Args:
        connection: To the process that searches. When it is gone, this process ends at once.
    """

    def __init__(self, connection: Connection) -> None:
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._channel = Channel(connection, self._heard, partial(os._exit, 0))
        self._files = Files(self._channel.send)
        threading.Thread(target=self._live, daemon=True).start()

    def serve(self) -> None:
        """Computes until the other end closes, which ends the process."""
        setup: Setup = self._inbox.get()
        try:
            trainings = self._trainings(setup)
        except Exception as error:  # noqa: BLE001 - as of a trial
            self._channel.send(_failed(error))
            threading.Event().wait()  # for the other end to close
        while True:
            start: Start = self._inbox.get()
            train = partial(trainings.run, start.recipe, on_event=self._on_event, on_epoch=self._on_epoch)
            self._channel.send(_outcome(train))

    def _trainings(self, setup: Setup) -> Trainings:
        torch.set_num_threads(setup.threads)
        base = setup.model()
        examples = [dataclasses.replace(each, read=partial(self._files.read, each.sha256)) for each in setup.examples]
        cache = MemoryCache()  # of its own: what others have put into a shared one may be rounded otherwise
        return Trainings(
            base, examples, shares_head=setup.shares_head, seed=setup.seed, image_size=setup.image_size, cache=cache,
            batch_scale=setup.batch_scale, precision=setup.precision,
        )  # fmt: skip

    def _heard(self, message: Any) -> None:
        if isinstance(message, Content):
            self._files.take(message)
        else:
            self._inbox.put(message)

    def _on_event(self, event: Event) -> None:
        self._channel.send(dataclasses.replace(event, state=None))

    def _on_epoch(self, row: Mapping[str, float]) -> bool:
        self._channel.send(Epoch(dict(row)))
        verdict: Verdict = self._inbox.get()
        return verdict.stop

    def _live(self) -> None:
        over = threading.Event()
        while not over.wait(_SIGN):
            self._channel.send(Alive())


def _outcome(train: Callable[[], tuple[str, str]]) -> Ended | Failed:
    """How a trial ends."""
    try:
        return Ended(*train())
    except Exception as error:  # noqa: BLE001 - whatever it is, the process that searches must hear of it
        return _failed(error)


def _failed(error: Exception) -> Failed:
    if is_out_of_memory(error):
        return Failed(MemoryError("workers: a worker of the search ran out of memory"))
    with suppress(Exception):
        pickle.loads(pickle.dumps(error))
        return Failed(error)
    return Failed(FailedPrecondition(f"search: a trial failed ({type(error).__name__}: {error!s:.200})"))


def main(arguments: list[str]) -> None:
    """Serves the process at the other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C and SIGTERM are for the process that searches, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Worker(Connection(int(arguments[0]))).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
